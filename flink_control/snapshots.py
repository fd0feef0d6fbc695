"""Where a job left off, on a disk that outlives the JobManager."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Snapshots:
    """A checkpoint folder, and a file that tells of which job the live one was last."""

    folder: Path
    record: Path

    def remember(self, job_id: str, snapshot: str | None) -> None:
        """Notes the job that runs, and its newest snapshot as far as it is known."""
        known = self._record()
        if snapshot is None and known.get("id") == job_id:
            return
        self._write({**known, "id": job_id, "snapshot": snapshot or known.get("snapshot")})

    def remember_fresh_start(self, job_id: str) -> None:
        """Notes a job that has begun without state: that of the job before is not its own."""
        self._write({**self._record(), "id": job_id, "snapshot": None})

    def remember_failure(self, job_id: str) -> None:
        """Notes a job that did not start and was cancelled for it, by no person."""
        self._write({**self._record(), "not_started": job_id})

    def did_not_start(self, job_id: str) -> bool:
        """Whether that was noted of this job."""
        return bool(self._record().get("not_started") == job_id)

    def _write(self, document: dict[str, Any]) -> None:
        if document == self._record():
            return
        written = self.record.with_name(f"{self.record.name}.{os.getpid()}")
        written.write_text(json.dumps(document))
        written.replace(self.record)  # whoever reads finds one of the two whole

    def last_job(self) -> str | None:
        """The job that ran last, None if none did."""
        known = self._record().get("id")
        return None if known is None else str(known)

    def newest(self) -> str | None:
        """Where the last job left off: its newest complete snapshot here, or the one noted."""
        job_id = self.last_job()
        if job_id is None:
            return None
        noted: str | None = self._record().get("snapshot")
        return self.newest_of(job_id) or noted

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
            known: dict[str, Any] = json.loads(self.record.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return known
