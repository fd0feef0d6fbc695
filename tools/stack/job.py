"""Keeps the live job running: submits it as the web UI would, from the state it left."""

import fcntl
import json
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any, Final

from flink_control.rest import ENDED, FlinkError, FlinkRest
from tools.stack.layout import LOCAL, Stack

JAR: Final = LOCAL / "launcher" / "block-detector.jar"
JOB_NAME: Final = "block-detector"
_RUNNING_TIMEOUT_S: Final = 60.0


def ensure(stack: Stack) -> str:
    """Submits the live job unless it runs; from its newest snapshot if it has one."""
    flink = FlinkRest(stack.flink_url)
    running = own(stack, flink)
    if running is not None:
        return f"job {running}"
    snapshot = newest_snapshot(stack, last_job_id(stack))
    with tempfile.TemporaryDirectory(prefix="job-") as folder:
        policy = stack.policy_file.read_text(encoding="utf-8")
        jar = jar_with_settings(Path(folder) / JAR.name, {"policy_text": policy})
        job_id = submit(stack, jar, snapshot)
    (stack.state_dir / "job.json").write_text(json.dumps({"id": job_id, "from": snapshot}))
    wait_until_running(flink, job_id)
    return f"job {job_id}" + (" from its last state" if snapshot else "")


def submit(stack: Stack, jar: Path, snapshot: str | None = None) -> str:
    """Uploads and runs a jar; its job's id. Waits while another process submits one.

    A JobManager keeps the Python gateway and the environment of a submission in static fields: two
    at once get each other's jobs.
    """
    with (stack.state_dir / "submit.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return FlinkRest(stack.flink_url).submit(jar, snapshot)


def stop(stack: Stack) -> str | None:
    """Stops the live job with a savepoint, which the next start begins from; its path."""
    flink = FlinkRest(stack.flink_url, timeout_s=3.0)
    job_id = own(stack, flink)
    if job_id is None:
        return None
    savepoint = flink.stop_with_savepoint(job_id)
    (stack.state_dir / "job.json").write_text(json.dumps({"id": job_id, "savepoint": savepoint}))
    return savepoint


def own(stack: Stack, flink: FlinkRest) -> str | None:
    """The live job that runs; of several with its name the one that this stack has started."""
    alive, known = flink.alive(JOB_NAME), last_job_id(stack)
    return known if known in alive else next(iter(alive), None)


def health(stack: Stack) -> tuple[bool, str]:
    """Whether exactly the live job runs, and in words what does."""
    flink = FlinkRest(stack.flink_url, timeout_s=3.0)
    try:
        alive, known = flink.alive(JOB_NAME), own(stack, flink)
        if known is None:
            return False, "no job runs: make upgrade starts it from its newest state"
        state = str(flink.job(known)["state"]).lower()
    except FlinkError as error:
        return False, f"not known: {error}"
    if len(alive) > 1:
        return False, f"{len(alive)} jobs judge at once: cancel all but {known}"
    return state == "running", f"job {known} {state}"


def last_job_id(stack: Stack) -> str | None:
    """The job that ran last in this stack, None if none did."""
    try:
        known: dict[str, Any] = json.loads((stack.state_dir / "job.json").read_text())
    except FileNotFoundError:
        return None
    return str(known["id"])


def newest_snapshot(stack: Stack, job_id: str | None) -> str | None:
    """The savepoint a job was stopped with, else its newest complete checkpoint, else None.

    A job that never completed one was itself started from somewhere: then that.
    """
    if job_id is None:
        return None
    known = json.loads((stack.state_dir / "job.json").read_text())
    if known["id"] == job_id and "savepoint" in known:
        return str(known["savepoint"])
    started_from = known.get("from")
    return newest_checkpoint(stack, job_id) or (started_from and str(started_from))


def newest_checkpoint(stack: Stack, job_id: str) -> str | None:
    """A job's newest complete checkpoint, None if there is none."""
    complete = sorted(
        (stack.checkpoints / job_id).glob("chk-*/_metadata"), key=lambda file: file.stat().st_mtime
    )
    return f"file://{complete[-1].parent}" if complete else None


def wait_until_running(flink: FlinkRest, job_id: str) -> None:
    """Returns when every task of a job runs; raises FlinkError with the reason if it fails."""
    deadline = time.monotonic() + _RUNNING_TIMEOUT_S
    while time.monotonic() < deadline:
        job = flink.job(job_id)
        if job["state"] == "FINISHED" or all(
            vertex["status"] in ("RUNNING", "FINISHED") for vertex in job["vertices"]
        ):
            return
        if job["state"] in ENDED:
            raise FlinkError(f"the job is {job['state']}: {flink.exceptions(job_id)}")
        time.sleep(0.1)
    raise FlinkError(
        f"the job does not run after {_RUNNING_TIMEOUT_S:.0f} s: {flink.exceptions(job_id)}"
    )


def jar_with_settings(target: Path, settings: dict[str, Any]) -> Path:
    """A copy of the launcher jar that carries settings of its own."""
    with zipfile.ZipFile(JAR) as jar, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as copy:
        for entry in jar.infolist():
            copy.writestr(entry, jar.read(entry))
        copy.writestr("job/flink_jobs/carried/settings.json", json.dumps(settings))
    return target
