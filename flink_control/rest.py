"""The REST calls of Flink's web UI: upload a jar, run it without arguments, stop a job."""

import time
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import requests

ENDED: Final = frozenset({"FINISHED", "FAILED", "CANCELED", "SUSPENDED"})
_RUN_TIMEOUT_S: Final = 120.0
_ANSWERS_ARE_KEPT_S: Final = 10.0
_READ_TRIES: Final = 3
_READ_AGAIN_S: Final = 0.2
_REFUSED: Final = "the job was refused: "
_CAUSE: Final = "Caused by: "


class FlinkError(Exception):
    """Flink refused a call; the message says why. `status` is HTTP's, None for no answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class _Answer(dict[str, Any]):
    """A JSON object; FlinkError where it lacks what Flink's has: another service answers there."""

    def __init__(self, url: str, document: dict[str, Any]) -> None:
        super().__init__(document)
        self._url = url

    def __missing__(self, key: str) -> Any:  # noqa: ANN401 — JSON
        raise FlinkError(f"{_no_flink(self._url)} ({key} is missing)")


class FlinkRest:
    """A client of one JobManager's REST address."""

    def __init__(self, url: str, timeout_s: float = 10.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise FlinkError(f"{url} is no address of a JobManager: http://host:8081")
        self.url = url.rstrip("/")
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

    def slots(self) -> tuple[int, int]:
        """How many slots no job has taken, and how many there are."""
        overview = self._call("GET", "/overview")
        return int(overview["slots-available"]), int(overview["slots-total"])

    def slots_available(self) -> int:
        """How many slots no job has taken; 0 while no JobManager answers."""
        try:
            return self.slots()[0]
        except FlinkError:
            return 0

    def upload(self, jar: Path, name: str | None = None) -> str:
        """Gives the JobManager a jar, which its web UI lists from then on; the jar's id."""
        with jar.open("rb") as content:
            uploaded = self._call(
                "POST",
                "/jars/upload",
                timeout_s=_RUN_TIMEOUT_S,
                files={"jarfile": (name or jar.name, content, "application/x-java-archive")},
            )
        return Path(uploaded["filename"]).name

    def jars(self) -> list[dict[str, Any]]:
        """The jars that the web UI lists, the newest first: `id`, `name`, `uploaded`."""
        jars: list[dict[str, Any]] = self._call("GET", "/jars")["files"]
        return sorted(jars, key=lambda jar: -int(jar["uploaded"]))

    def delete_jar(self, jar_id: str) -> None:
        """Takes a jar from the list; a job that runs from it goes on."""
        self._call("DELETE", f"/jars/{jar_id}")

    def run_jar(
        self,
        jar_id: str,
        savepoint: str | None = None,
        configuration: dict[str, str] | None = None,
        timeout_s: float = _RUN_TIMEOUT_S,
    ) -> str:
        """Runs a jar; the id of its job. Raises FlinkError with the job's own words if refused.

        `configuration` reaches the job only, beside Flink's own settings.
        """
        body: dict[str, Any] = {}
        if savepoint is not None:
            body = {"savepointPath": savepoint, "allowNonRestoredState": True}
        if configuration:
            body["flinkConfiguration"] = configuration
        answer = self._call("POST", f"/jars/{jar_id}/run", timeout_s=timeout_s, json=body)
        return str(answer["jobid"])

    def submit(self, jar: Path, savepoint: str | None = None) -> str:
        """Uploads a jar, runs it and forgets it again; the id of the job."""
        jar_id = self.upload(jar)
        try:
            return self.run_jar(jar_id, savepoint)
        finally:
            self.delete_jar(jar_id)

    def job(self, job_id: str) -> dict[str, Any]:
        """The state of a job and of its vertices."""
        return self._call("GET", f"/jobs/{job_id}")

    def parameters(self, job_id: str) -> dict[str, str]:
        """What a job tells of itself: what the web UI shows as its user configuration."""
        config = self._call("GET", f"/jobs/{job_id}/config").get("execution-config", {})
        parameters: dict[str, str] = config.get("user-config", {})
        return parameters

    def checkpoints(self, job_id: str) -> dict[str, Any]:
        """What a job's checkpoints were: counts, summary, the latest of each kind."""
        return self._call("GET", f"/jobs/{job_id}/checkpoints")

    def exceptions(self, job_id: str) -> str:
        """Why a job failed last, empty if it did not."""
        return next(iter(self.failures(job_id)), "")

    def failures(self, job_id: str) -> list[str]:
        """Why a job failed each time, the newest first, as far as the JobManager remembers."""
        history = self._call("GET", f"/jobs/{job_id}/exceptions")["exceptionHistory"]["entries"]
        return [str(entry["stacktrace"]) for entry in history]

    def newest_snapshot(self, job_id: str) -> str | None:
        """A job's newest complete checkpoint or savepoint, None if it has none yet."""
        latest = self.checkpoints(job_id).get("latest", {})
        known = [
            snapshot
            for kind in ("completed", "savepoint")
            if (snapshot := latest.get(kind)) and not snapshot.get("discarded")
        ]
        if not known:
            return None
        newest = max(known, key=lambda snapshot: int(snapshot["trigger_timestamp"]))
        return str(newest["external_path"])

    def is_stopping(self, job_id: str) -> bool:
        """Whether a job writes the savepoint with which it ends, or has written it and ends now.

        Afterwards it has ended, or goes on and writes checkpoints again.
        """
        history: list[dict[str, Any]] = self.checkpoints(job_id)["history"]
        newest = max(history, key=lambda snapshot: int(snapshot["id"]), default={})
        return newest.get("checkpoint_type") == "SYNC_SAVEPOINT" and newest["status"] != "FAILED"

    def restored_from(self, job_id: str) -> str | None:
        """The snapshot that a job has begun with, None if it has begun with none."""
        restored = self.checkpoints(job_id)["latest"]["restored"]
        return None if restored is None else str(restored["external_path"])

    def savepoint_since(self, job_id: str, ordered_ms: int) -> tuple[str, int]:
        """The path of the savepoint that ended a job, and when it was ordered, by Flink's clock.

        Of savepoints that were ordered before `ordered_ms` none counts. Raises FlinkError if there
        is no other.
        """
        # Flink keeps its answers for some seconds (web.refresh-interval).
        deadline = time.monotonic() + _ANSWERS_ARE_KEPT_S
        while True:
            last = self.checkpoints(job_id)["latest"]["savepoint"]
            if last is not None and int(last["trigger_timestamp"]) >= ordered_ms:
                return str(last["external_path"]), int(last["trigger_timestamp"])
            if time.monotonic() > deadline:
                raise FlinkError(f"job {job_id} has ended without a savepoint")
            time.sleep(0.2)

    def cancel(self, job_id: str) -> None:
        """Ends a job."""
        self._call("PATCH", f"/jobs/{job_id}?mode=cancel")

    def savepoint(self, job_id: str, timeout_s: float = 120.0) -> str:
        """Writes a savepoint of a job, which goes on; its path."""
        body = {"cancel-job": False}
        request = self._call("POST", f"/jobs/{job_id}/savepoints", json=body)["request-id"]
        return self._savepoint_path(job_id, request, timeout_s)

    def stop_with_savepoint(self, job_id: str, timeout_s: float = 120.0) -> str:
        """Stops a job with all its state kept; the savepoint's path."""
        request = self._call("POST", f"/jobs/{job_id}/stop", json={"drain": False})["request-id"]
        return self._savepoint_path(job_id, request, timeout_s)

    def _savepoint_path(self, job_id: str, request: str, timeout_s: float) -> str:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            answer = self._call("GET", f"/jobs/{job_id}/savepoints/{request}")
            if answer["status"]["id"] == "COMPLETED":
                operation = answer["operation"]
                if "location" in operation:
                    return str(operation["location"])
                failure = str(operation.get("failure-cause", {}).get("stack-trace"))
                raise FlinkError(f"no savepoint: {root_cause(failure)}")
            time.sleep(0.1)
        raise FlinkError(f"the savepoint was not written within {timeout_s:.0f} s")

    def _call(
        self,
        method: str,
        path: str,
        *,
        timeout_s: float | None = None,
        **arguments: Any,  # noqa: ANN401 — handed to requests
    ) -> dict[str, Any]:
        response = self._answer(method, path, timeout_s, arguments)
        # Flink 2.2 makes percentiles of checkpoints lazily and without a lock: of two who read
        # those of a job at the same moment it may fail one.
        for _ in range(1, _READ_TRIES):
            if method != "GET" or response.status_code != HTTPStatus.INTERNAL_SERVER_ERROR:
                break
            time.sleep(_READ_AGAIN_S)
            response = self._answer(method, path, timeout_s, arguments)
        if not response.ok:
            raise FlinkError(_own_words(response), response.status_code)
        try:
            document = response.json() if response.content else {}
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise FlinkError(_no_flink(self.url + path))
        return _Answer(self.url + path, document)

    def _answer(
        self, method: str, path: str, timeout_s: float | None, arguments: dict[str, Any]
    ) -> requests.Response:
        try:
            return requests.request(
                method, self.url + path, timeout=timeout_s or self._timeout_s, **arguments
            )
        except requests.RequestException as error:
            raise FlinkError(f"Flink does not answer at {self.url}: {error}") from error


def root_cause(stack_trace: str) -> str:
    """The innermost cause that a Java stack trace names; in the job's own words if it refused."""
    if _REFUSED in stack_trace:
        words = stack_trace.split(_REFUSED, 1)[1]
        return words.split("\n\tat ", 1)[0].split(f"\n{_CAUSE}", 1)[0].strip()
    cause = stack_trace.rsplit(_CAUSE, 1)[-1].split("\n\tat ", 1)[0].strip()
    cause = cause.removeprefix("<Exception on server side:").strip()
    name, separator, message = cause.partition(": ")
    # Without the package: people know what a FileNotFoundException is.
    return f"{name.rsplit('.', 1)[-1]}{separator}{message}" if " " not in name else cause


def _no_flink(url: str) -> str:
    return f"what answers at {url} is not Flink's REST"


def _own_words(response: requests.Response) -> str:
    try:
        errors = [str(error) for error in response.json()["errors"]]
    except (ValueError, KeyError, TypeError):
        return f"Flink answered {response.status_code}"
    told = [error for error in errors if error != "Internal server error."]
    return root_cause("\n".join(told or errors))
