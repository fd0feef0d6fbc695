"""Replays recorded attempts through the running stack's Kafka and Flink, beside the live job.

The same job, in a jar that carries its own settings: topics of the replay's own, read to their
end, no Redis. The live job sees none of it.
"""

import argparse
import json
import signal
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from kafka import KafkaProducer
from kafka.errors import KafkaError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from flink_control.jar import with_settings
from flink_control.rest import ENDED, FlinkError, FlinkRest
from login_blocking.attempts import Attempt
from login_blocking.commands import Command
from login_blocking.events import BlockEvent, EventKind
from login_blocking.events import decode as decode_event
from login_blocking.kafka_access import KafkaAccess
from login_blocking.policy_file import PolicyError, parse_policy
from tools.policies import find_policy
from tools.recordings import RecordingError, read_recording
from tools.stack import job, layout, live, topics
from tools.stack.layout import NoStackError, Stack
from tools.topic_records import records_of

_KEPT_FOR_EVER: Final = {"retention.ms": "-1"}
"""History has old stamps: the broker would delete it while it is read."""

_FLINK_AWAY_S: Final = 120.0
_console = Console(highlight=False)


@dataclass(frozen=True, slots=True)
class Names:
    """One replay's job and topics."""

    job: str
    attempts: str
    commands: str
    events: str

    @classmethod
    def fresh(cls) -> "Names":
        """Names nobody has used."""
        name = f"replay-{uuid.uuid4().hex[:12]}"
        return cls(name, f"{name}-attempts", f"{name}-commands", f"{name}-events")

    @property
    def topics(self) -> list[str]:
        """All its topics."""
        return [self.attempts, self.commands, self.events]


def main() -> int:
    """Runs the command line; its exit status."""
    parser = argparse.ArgumentParser(prog="tools.replay", description=__doc__)
    parser.add_argument(
        "data", type=Path, help="recorded attempts, in any format of tools.backtest"
    )
    parser.add_argument("--policy", required=True, help="a file, or the name of a shipped policy")
    parser.add_argument("--out", type=Path, help="write the blocks here, one JSON object a line")
    parser.add_argument("--state-dir", type=Path, default=layout.DEFAULT_STATE_DIR)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        stack = live.load(arguments.state_dir)
        attempts = read_recording(arguments.data)
        policy_text = find_policy(arguments.policy).read_text(encoding="utf-8")
        parse_policy(policy_text)
        events = replay(stack, attempts, policy_text)
    except KeyboardInterrupt:
        _console.print("Ended; the replay's job and topics are gone.")
        return 130
    except (NoStackError, RecordingError, PolicyError, FlinkError, KafkaError, OSError) as error:
        _console.print(str(error), style="red", markup=False)
        return 1
    blocks = [event for event in events if event.event is EventKind.BLOCKED]
    if arguments.out:
        arguments.out.write_text("".join(f"{line}\n" for line in block_lines(blocks)))
    _summarise(attempts, blocks)
    return 0


def disorder_ms(attempts: Sequence[Attempt]) -> int:
    """How much earlier than one before it an attempt can be."""
    worst = latest = 0
    for attempt in attempts:
        latest = max(latest, attempt.ts)
        worst = max(worst, latest - attempt.ts)
    return worst


def replay(
    stack: Stack,
    attempts: Sequence[Attempt],
    policy_text: str,
    commands: Sequence[Command] = (),
) -> list[BlockEvent]:
    """Every event that the job makes of these attempts under a policy, each once.

    With commands, hits and commands take effect in the order of their times.
    """
    names = Names.fresh()
    settings = job_settings(names, policy_text, attempts)
    if commands:
        settings["commands_topic"] = names.commands
    # One partition: attempts of equal time keep the order of the recording.
    wanted = dict.fromkeys(names.topics, _KEPT_FOR_EVER)
    topics.create_topics(stack.kafka_bootstrap, wanted, partitions=1)
    try:
        with progress_bar() as progress:
            _load(stack, names, attempts, commands, progress)
            run_job(stack, settings, len(attempts), progress)
        return read_events(stack, names.events)
    finally:
        clean_up(stack, names)


def job_settings(names: Names, policy_text: str, attempts: Sequence[Attempt]) -> dict[str, Any]:
    """The settings that a replay's jar carries: history to its end, no Redis, no commands."""
    return {
        "job_name": names.job,
        "attempts_topic": names.attempts,
        "events_topic": names.events,
        "rejected_topic": None,
        "commands_topic": None,
        "policy_text": policy_text,
        "policy_file": None,
        "redis_url": None,
        "bounded": True,
        "watermark_delay_ms": disorder_ms(attempts),
    }


def read_events(stack: Stack, topic: str) -> list[BlockEvent]:
    """All events that a topic of the stack holds now, each once."""
    return events_of(KafkaAccess(stack.kafka_bootstrap), topic)


def events_of(access: KafkaAccess, topic: str) -> list[BlockEvent]:
    """All events that a topic holds now; one that was written again after a restart counts once.

    Raises KafkaError.
    """
    events = (decode_event(record.value) for record in records_of(access, topic))
    return list({event.id: event for event in events}.values())


def block_lines(blocks: list[BlockEvent]) -> list[str]:
    """Blocks in the form of the expected files: their keys, their order."""
    ordered = sorted(blocks, key=lambda b: (b.since, b.subject_type, b.subject, b.rule))
    return [
        json.dumps(
            {
                "subject_type": block.subject_type,
                "subject": block.subject,
                "rule": block.rule,
                "since": block.since,
                "until": block.until,
                "level": block.level,
            },
            separators=(",", ":"),
        )
        for block in ordered
    ]


def progress_bar() -> Progress:
    """How far a replay is."""
    return Progress(
        TextColumn("{task.description:10}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), console=_console,
    )  # fmt: skip


def _load(
    stack: Stack,
    names: Names,
    attempts: Sequence[Attempt],
    commands: Sequence[Command],
    progress: Progress,
) -> None:
    producer = KafkaProducer(
        bootstrap_servers=stack.kafka_bootstrap, acks="all", linger_ms=20, batch_size=262_144
    )
    try:
        sent = [
            producer.send(
                names.attempts, key=attempt.key(), value=attempt.encode(), timestamp_ms=attempt.ts
            )
            for attempt in progress.track(attempts, description="loading")
        ]
        sent += [
            producer.send(names.commands, key=command.key(), value=command.encode())
            for command in commands
        ]
        producer.flush(timeout=60)
        for future in sent:
            future.get(timeout=10)
    finally:
        producer.close(timeout=5)


def run_job(stack: Stack, settings: dict[str, Any], total: int, progress: Progress) -> None:
    """Runs the job to its end; when a new JobManager does not know it, from its last checkpoint."""
    flink = FlinkRest(stack.flink_url)
    with tempfile.TemporaryDirectory(prefix="replay-") as folder:
        jar = with_settings(job.JAR, Path(folder) / f"{settings['job_name']}.jar", settings)
        started_from: str | None = None
        job_id = flink.submit(jar)
        bar = progress.add_task("judging", total=total)
        away_since: float | None = None
        while True:
            try:
                state = flink.job(job_id)
                away_since = None
            except FlinkError as error:
                away_since = away_since or time.monotonic()
                if time.monotonic() - away_since > _FLINK_AWAY_S:
                    raise
                time.sleep(0.5)
                if error.status == HTTPStatus.NOT_FOUND and flink.slots_available():
                    started_from = job.snapshots(stack).newest_of(job_id) or started_from
                    # A restored bounded source ends only when it finds a partition it did not know.
                    topics.add_partition(stack.kafka_bootstrap, settings["attempts_topic"])
                    if settings["commands_topic"]:
                        topics.add_partition(stack.kafka_bootstrap, settings["commands_topic"])
                    job_id = flink.submit(jar, started_from)
                continue
            read = max((v["metrics"]["write-records"] for v in state["vertices"][:1]), default=0)
            progress.update(bar, completed=min(read, total))
            if state["state"] == "FINISHED":
                progress.update(bar, completed=total)
                return
            if state["state"] in ENDED:
                raise FlinkError(f"the replay is {state['state']}: {flink.exceptions(job_id)}")
            time.sleep(0.2)


def clean_up(stack: Stack, names: Names) -> None:
    """Ends a replay's job if it runs, and deletes its topics."""
    flink = FlinkRest(stack.flink_url)
    with _said("job"):
        running = flink.running(names.job)
        if running is not None:
            flink.cancel(running)
    with _said("topics"):
        topics.delete_topics(stack.kafka_bootstrap, names.topics)


@contextmanager
def _said(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 — what the replay found must not be lost for this
        _console.print(f"The replay's {what} could not be removed: {error}", markup=False)


def _summarise(attempts: list[Attempt], blocks: list[BlockEvent]) -> None:
    _console.print(f"{len(attempts):,} attempts, {len(blocks):,} blocks")
    for rule, number in sorted(Counter(block.rule for block in blocks).items()):
        _console.print(f"  {rule:24} {number:6,}")
    subjects = Counter(block.subject for block in blocks)
    for subject, number in subjects.most_common(5):
        # repr: the names are the attackers' own text.
        _console.print(f"  {subject!r}: blocked {number} time(s)", markup=False)


if __name__ == "__main__":
    sys.exit(main())
