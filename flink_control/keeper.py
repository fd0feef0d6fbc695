"""Keeps one live job running on a session cluster that forgets its jobs when it restarts."""

import time
from pathlib import Path
from typing import Final

from flink_control import live_job
from flink_control.jar import WrongJarError
from flink_control.rest import FlinkError, FlinkRest
from flink_control.snapshots import Snapshots

_LOOK_EVERY_S: Final = 3.0


class Keeper:
    """Looks every few seconds, and submits the job where a JobManager answers and none runs.

    It leaves alone what a person has ended: a JobManager that remembers its last job as finished
    or cancelled gets no other until it restarts or someone submits one.
    """

    def __init__(
        self, flink: FlinkRest, jar: Path, snapshots: Snapshots, *, policy_file: Path | None = None
    ) -> None:
        self._flink = flink
        self._jar = jar
        self._snapshots = snapshots
        self._policy_file = policy_file
        self._said = ""

    def run(self) -> None:
        """For ever."""
        while True:
            self.look()
            time.sleep(_LOOK_EVERY_S)

    def look(self) -> None:
        """One look, and what it takes to have one job."""
        try:
            self._say(self._keep())
        except (FlinkError, WrongJarError, OSError) as error:
            self._say(str(error))

    def _keep(self) -> str:
        running = live_job.only(self._flink)
        if running is not None:
            self._snapshots.remember(running, live_job.left_off(self._flink, running))
            return f"job {running} runs"
        ended = self._ended_by_a_person()
        if ended is not None:
            return f"job {ended}; it is not started again: submit it"
        if self._flink.slots()[0] == 0:
            return "no job runs, and no slot is free: is the TaskManager up?"
        policy = None if self._policy_file is None else self._policy_file.read_text("utf-8")
        submitted = live_job.submit(
            self._flink, self._jar, policy_text=policy, kept=self._snapshots, say=self._say
        )
        if not submitted.fresh:
            return f"job {submitted.job_id} runs"
        return f"job {submitted.job_id} started from {submitted.snapshot or 'no earlier state'}"

    def _ended_by_a_person(self) -> str | None:
        known = [job for job in self._flink.jobs() if job["name"] == live_job.JOB_NAME]
        last = max(known, key=lambda job: int(job["start-time"]), default=None)
        if last is None or last["state"] not in ("FINISHED", "CANCELED"):
            return None
        if self._snapshots.did_not_start(last["jid"]):
            return None
        # A stop that is part of an upgrade looks the same: its new job is there soon.
        self._snapshots.remember(last["jid"], live_job.left_off(self._flink, last["jid"]))
        return f"{last['jid']} is {str(last['state']).lower()}"

    def _say(self, words: str) -> None:
        """Each state once, not every three seconds."""
        if words != self._said:
            print(words, flush=True)
            self._said = words
