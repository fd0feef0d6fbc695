"""The REST calls of Flink's web UI: upload a jar, run it without arguments, watch it, stop it."""

import time
from pathlib import Path
from typing import Any, Final

import requests

ENDED: Final = frozenset({"FINISHED", "FAILED", "CANCELED", "SUSPENDED"})
_RUN_TIMEOUT_S: Final = 120.0


class FlinkError(Exception):
    """Flink refused a call; the message is its own. `status` is HTTP's, None for no answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class FlinkRest:
    """A client of one JobManager's REST address."""

    def __init__(self, url: str, timeout_s: float = 10.0) -> None:
        self._url = url
        self._timeout_s = timeout_s

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs it remembers: `jid`, `name`, `state`, `start-time`."""
        jobs: list[dict[str, Any]] = self._call("GET", "/jobs/overview")["jobs"]
        return jobs

    def running(self, name: str) -> str | None:
        """The id of a job of that name that has not ended, None if there is none."""
        return next(iter(self.alive(name)), None)

    def alive(self, name: str) -> list[str]:
        """The ids of all jobs of that name that have not ended."""
        return [
            job["jid"] for job in self.jobs() if job["name"] == name and job["state"] not in ENDED
        ]

    def slots_available(self) -> int:
        """How many slots no job has taken; 0 while no JobManager answers."""
        try:
            return int(self._call("GET", "/overview")["slots-available"])
        except FlinkError:
            return 0

    def submit(self, jar: Path, savepoint: str | None = None) -> str:
        """Uploads a jar, runs it and forgets it again; the id of the job.

        Raises FlinkError with the job's own words if it was refused.
        """
        with jar.open("rb") as content:
            uploaded = self._call(
                "POST",
                "/jars/upload",
                files={"jarfile": (jar.name, content, "application/x-java-archive")},
            )
        jar_id = Path(uploaded["filename"]).name
        body = (
            {} if savepoint is None else {"savepointPath": savepoint, "allowNonRestoredState": True}
        )
        try:
            answer = self._call("POST", f"/jars/{jar_id}/run", timeout_s=_RUN_TIMEOUT_S, json=body)
        finally:
            self._call("DELETE", f"/jars/{jar_id}")
        return str(answer["jobid"])

    def job(self, job_id: str) -> dict[str, Any]:
        """The state of a job and of its vertices."""
        return self._call("GET", f"/jobs/{job_id}")

    def checkpoints(self, job_id: str) -> dict[str, Any]:
        """What a job's checkpoints were: counts, summary, the latest of each kind."""
        return self._call("GET", f"/jobs/{job_id}/checkpoints")

    def exceptions(self, job_id: str) -> str:
        """Why a job failed last, empty if it did not."""
        history = self._call("GET", f"/jobs/{job_id}/exceptions")["exceptionHistory"]["entries"]
        return str(history[0]["stacktrace"]) if history else ""

    def cancel(self, job_id: str) -> None:
        """Ends a job."""
        self._call("PATCH", f"/jobs/{job_id}?mode=cancel")

    def stop_with_savepoint(self, job_id: str, timeout_s: float = 30.0) -> str:
        """Stops a job with all its state kept; the savepoint's path."""
        request = self._call("POST", f"/jobs/{job_id}/stop", json={"drain": False})["request-id"]
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            answer = self._call("GET", f"/jobs/{job_id}/savepoints/{request}")
            if answer["status"]["id"] == "COMPLETED":
                operation = answer["operation"]
                if "location" in operation:
                    return str(operation["location"])
                raise FlinkError(str(operation.get("failure-cause", {}).get("stack-trace")))
            time.sleep(0.1)
        raise FlinkError(f"the job did not stop within {timeout_s:.0f} s")

    def _call(
        self,
        method: str,
        path: str,
        *,
        timeout_s: float | None = None,
        **arguments: Any,  # noqa: ANN401 — handed to requests
    ) -> dict[str, Any]:
        try:
            response = requests.request(
                method, self._url + path, timeout=timeout_s or self._timeout_s, **arguments
            )
        except requests.RequestException as error:
            raise FlinkError(f"Flink does not answer at {self._url}: {error}") from error
        if not response.ok:
            raise FlinkError(_own_words(response), response.status_code)
        document: dict[str, Any] = response.json() if response.content else {}
        return document


def _own_words(response: requests.Response) -> str:
    try:
        errors = "\n".join(map(str, response.json()["errors"]))
    except (ValueError, KeyError):
        return f"Flink answered {response.status_code}"
    marker = "the job was refused: "
    if marker in errors:
        return errors.split(marker, 1)[1].split("\n\tat ", 1)[0].strip()
    return errors
