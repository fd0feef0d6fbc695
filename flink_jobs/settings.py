"""Settings of the detector: from environment variables `DETECTOR_…` of the JobManager.

A jar may carry `settings.json`, which wins: so one cluster runs the live job and replays, each
started without arguments (the web UI drops them).
"""

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from flink_jobs.resources import optional_resource, resource
from login_blocking.kafka_access import KafkaSettings
from login_blocking.names import (
    BLOCK_COMMANDS,
    BLOCK_EVENTS,
    LOGIN_ATTEMPTS,
    LOGIN_ATTEMPTS_REJECTED,
)


class Settings(KafkaSettings, BaseSettings):
    """What to read, where to write. README's table explains each."""

    model_config = SettingsConfigDict(
        env_prefix="DETECTOR_", env_file=None, extra="forbid", hide_input_in_errors=True
    )

    job_name: str = "block-detector"
    attempts_topic: str = LOGIN_ATTEMPTS
    rejected_topic: str | None = LOGIN_ATTEMPTS_REJECTED
    """None: drop what is no attempt; for history, whose reader has refused it before."""
    commands_topic: str | None = BLOCK_COMMANDS
    events_topic: str = BLOCK_EVENTS
    policy_file: Path | None = None
    policy_text: str | None = None
    redis_url: SecretStr | None = None
    """None: write no blocks, set no timers; for history."""
    bounded: bool = False
    """Read what the topic holds now, then end."""
    clock: bool = True
    """Let event time go on over a quiet topic; never in history."""
    preflight: bool = True
    """Look before a submission to a session cluster whether the job can run: no second one of its
    name, a free slot, Kafka and its topics there, and the state that the last one left."""
    fresh_start: bool = False
    """Begin without state even where an earlier job has read the topic."""
    watermark_delay_ms: Annotated[int, Field(ge=0)] = 500
    """How much later than a younger one an attempt may arrive and still be judged in its order."""

    def policy_source(self) -> str:
        """The policy's YAML: carried in the settings, from a file, or the jar's own."""
        if self.policy_text is not None:
            return self.policy_text
        if self.policy_file is not None:
            return self.policy_file.read_text(encoding="utf-8")
        return resource("policies/default.yaml")


def load_settings() -> Settings:
    """The settings of this submission; raises pydantic's ValidationError or OSError."""
    carried = optional_resource("settings.json")
    return Settings(**({} if carried is None else json.loads(carried)))
