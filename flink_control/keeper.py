"""Keeps one live job running on a session cluster that forgets its jobs when it restarts."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flink_control import live_job
from flink_control.jar import WrongJarError
from flink_control.rest import FlinkError, FlinkRest

_LOOK_EVERY_S: Final = 3.0
_RECORD: Final = "last-job.json"


@dataclass(frozen=True, slots=True)
class Snapshots:
    """Flink's checkpoint folder, and in it a record of the last job, so that both go together."""

    folder: Path

    def remember(self, job_id: str, snapshot: str | None) -> None:
        """Notes the job that runs, and its newest snapshot as far as it is known."""
        known = self._record()
        if snapshot is None and known.get("id") == job_id:
            return
        self._write({**known, "id": job_id, "snapshot": snapshot or known.get("snapshot")})

    def remember_failure(self, job_id: str) -> None:
        """Notes a job that did not start and was cancelled for it, by no person."""
        self._write({**self._record(), "not_started": job_id})

    def did_not_start(self, job_id: str) -> bool:
        """Whether that was noted of this job."""
        return bool(self._record().get("not_started") == job_id)

    def _write(self, document: dict[str, Any]) -> None:
        if document == self._record():
            return
        written = self.folder / f"{_RECORD}.{os.getpid()}"
        written.write_text(json.dumps(document))
        written.replace(self.folder / _RECORD)

    def newest(self) -> str | None:
        """Where the last job left off: its newest complete snapshot here, or the one noted."""
        known = self._record()
        job_id = str(known.get("id", ""))
        return (self.newest_of(job_id) if job_id else None) or known.get("snapshot")

    def newest_of(self, job_id: str) -> str | None:
        """A job's newest complete checkpoint or savepoint in the folder, None if there is none."""
        complete = [
            *self.folder.glob(f"{job_id}/chk-*/_metadata"),
            *self.folder.glob(f"savepoint-{job_id[:6]}-*/_metadata"),
        ]
        newest = max(complete, key=lambda file: file.stat().st_mtime, default=None)
        return None if newest is None else f"file://{newest.parent}"

    def _record(self) -> dict[str, Any]:
        try:
            known: dict[str, Any] = json.loads((self.folder / _RECORD).read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return known


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
            self._snapshots.remember(running, self._flink.newest_snapshot(running))
            return f"job {running} runs"
        ended = self._ended_by_a_person()
        if ended is not None:
            return f"job {ended}; it is not started again: submit it"
        if self._flink.slots_available() == 0:
            return "no job runs, and no slot is free: is the TaskManager up?"
        snapshot = live_job.remembered_snapshot(self._flink) or self._snapshots.newest()
        policy = None if self._policy_file is None else self._policy_file.read_text("utf-8")
        try:
            submitted = live_job.submit(
                self._flink, self._jar, policy_text=policy, snapshot=snapshot, say=self._say
            )
        except live_job.NotStartedError as error:
            self._snapshots.remember_failure(error.job_id)
            raise
        self._snapshots.remember(submitted.job_id, submitted.snapshot)
        return f"job {submitted.job_id} started from {submitted.snapshot or 'no earlier state'}"

    def _ended_by_a_person(self) -> str | None:
        known = [job for job in self._flink.jobs() if job["name"] == live_job.JOB_NAME]
        last = max(known, key=lambda job: int(job["start-time"]), default=None)
        if last is None or last["state"] not in ("FINISHED", "CANCELED"):
            return None
        if self._snapshots.did_not_start(last["jid"]):
            return None
        # A stop that is part of an upgrade looks the same: its new job is there soon.
        self._snapshots.remember(last["jid"], self._flink.newest_snapshot(last["jid"]))
        return f"{last['jid']} is {str(last['state']).lower()}"

    def _say(self, words: str) -> None:
        """Each state once, not every three seconds."""
        if words != self._said:
            print(words, flush=True)
            self._said = words
