"""The live job on a session cluster: submitted, upgraded, stopped; one at a time, nothing lost."""

import contextlib
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from flink_control.jar import check_jar, with_settings
from flink_control.rest import ENDED, FlinkError, FlinkRest, root_cause
from flink_control.snapshots import Snapshots

JOB_NAME: Final = "block-detector"
POLICY_PARAMETER: Final = "detector.policy"
REPLACES: Final = "detector.replaces"
FRESH: Final = "detector.fresh"
BEGINS_FROM: Final = "detector.begins-from"
JAR_PARAMETER: Final = "detector.jar"
NONE_RUNS: Final = f"no job named {JOB_NAME} runs"

_RUNNING_WITHIN_S: Final = 120.0
_UPGRADED_WITHIN_S: Final = 600.0
_FAILS_FOR_S: Final = 15.0
_FAILS_TIMES: Final = 3
_ENDED_WITHIN_S: Final = 60.0
_NO_SLOT: Final = "NoResourceAvailableException"
_NO_SLOT_IN_WORDS: Final = (
    "no slot became free for the job, which was cancelled: end another job, or start another "
    "TaskManager"
)
_ALREADY_RUNS: Final = "already runs"
_POLL_S: Final = 0.1
_REMEMBERED_S: Final = 3.5
_JARS_KEPT: Final = 3
_UPLOADED: Final = re.compile(rf"[0-9a-f-]{{36}}_{JOB_NAME}\.jar")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job that runs, and what it began from."""

    job_id: str
    snapshot: str | None
    fresh: bool
    """False: it ran before, and nothing was done."""


@dataclass(frozen=True, slots=True)
class Upgraded:
    """A job that took another's place."""

    job_id: str
    savepoint: str
    pause_s: float
    """From the order to stop until every task of the new job runs, by Flink's clock."""


class NotStartedError(FlinkError):
    """A job that was taken but whose tasks did not run; it was cancelled."""

    def __init__(self, message: str, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class NoAnswerError(FlinkError):
    """The JobManager did not say what became of an upgrade."""


class RolledBackError(FlinkError):
    """The new job did not start; the old one runs again from its savepoint."""

    def __init__(self, message: str, job_id: str, savepoint: str) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.savepoint = savepoint


class NeitherStartedError(NotStartedError):
    """The old job has ended for a new one, and neither runs; `job_id` is the last of them."""


def only(flink: FlinkRest) -> str | None:
    """The live job's id, None if there is none; FlinkError if there are several."""
    alive = flink.alive(JOB_NAME)
    if len(alive) > 1:
        raise FlinkError(
            f"{len(alive)} jobs named {JOB_NAME} run at once: {', '.join(alive)}; "
            "cancel all but one of them first"
        )
    return next(iter(alive), None)


def submit(
    flink: FlinkRest,
    jar: Path,
    *,
    policy_text: str | None = None,
    snapshot: str | None = None,
    fresh: bool = False,
    kept: Snapshots | None = None,
    say: Say = print,
) -> Submitted:
    """Starts the live job unless it runs; returns when each of its tasks does.

    Without `snapshot` it begins with the newest that this JobManager knows of an earlier job of
    the name, and if it knows none, with the newest in `kept`; `fresh`: with none. A job that
    cannot start is not left behind. What became of it is noted in `kept`.
    """
    check_jar(jar)
    running = only(flink)
    if running is not None:
        return _runs_already(running, kept, say)
    begin_from = None
    if not fresh:
        begin_from = snapshot or remembered_snapshot(flink) or (kept.newest() if kept else None)
    jar_id = upload(flink, jar, policy_text)
    try:
        job_id = flink.run_jar(jar_id, begin_from, {FRESH: "true"} if fresh else None)
        wait_until_running(flink, job_id, restored=begin_from is not None)
    except FlinkError as error:
        with contextlib.suppress(FlinkError):
            flink.delete_jar(jar_id)
        # Another one has submitted it since the look above, and that was wanted.
        if _ALREADY_RUNS in str(error) and (other := only(flink)) is not None:
            return _runs_already(other, kept, say)
        if kept is not None and isinstance(error, NotStartedError):
            # Else it looks like one that a person has ended.
            _note(say, kept.remember_failure, error.job_id)
        raise
    if kept is not None and fresh:
        # Unnoted, the next one would begin from the state that was given up.
        kept.remember_fresh_start(job_id)
    elif kept is not None:
        _note(say, kept.remember, job_id, begin_from)
    forget_old_jars(flink, say)
    return Submitted(job_id, begin_from, fresh=True)


def _runs_already(job_id: str, kept: Snapshots | None, say: Say) -> Submitted:
    if kept is not None:
        _note(say, kept.remember, job_id, None)
    return Submitted(job_id, None, fresh=False)


def _note(say: Say, note: Callable[..., None], *what: str | None) -> None:
    """A job that runs is no failure because it could not be noted."""
    try:
        note(*what)
    except OSError as error:
        say(f"not noted for a later start: {error}")


def upgrade(
    flink: FlinkRest, jar: Path, *, policy_text: str | None = None, say: Say = print
) -> Upgraded:
    """Another version or policy for the live job, which is stopped with a savepoint for it.

    The new one stops it itself, at the last moment: what is refused stops nothing, and the pause
    is short. If it does not start all the same, the old one is started again from the savepoint,
    and RolledBackError says why.
    """
    check_jar(jar)
    job_id = only(flink)
    if job_id is None:
        raise FlinkError(f"{NONE_RUNS}: submit one in place of an upgrade")
    before = flink.parameters(job_id)
    began_ms = int(flink.job(job_id)["now"])
    jar_id = upload(flink, jar, policy_text)
    try:
        new_id = _run_in_place_of(flink, jar_id, job_id)
        running_at = wait_until_running(flink, new_id, restored=True)
    except NoAnswerError:
        raise
    except FlinkError as error:
        _undo(flink, job_id, began_ms, before, jar=jar, error=error)
        with contextlib.suppress(FlinkError):
            flink.delete_jar(jar_id)
        raise
    savepoint, stopped_at = flink.savepoint_since(job_id, began_ms)
    forget_old_jars(flink, say)
    return Upgraded(new_id, savepoint, (running_at - stopped_at) / 1_000)


def _run_in_place_of(flink: FlinkRest, jar_id: str, job_id: str) -> str:
    try:
        return flink.run_jar(jar_id, None, {REPLACES: job_id}, _UPGRADED_WITHIN_S)
    except FlinkError as error:
        if error.status is None:
            raise NoAnswerError(
                f"{error}\nWhether job {job_id} was stopped is not known: look (status), and if no "
                "job runs, submit; it begins where the old one left off."
            ) from error
        raise


def _undo(
    flink: FlinkRest,
    job_id: str,
    began_ms: int,
    before: dict[str, str],
    *,
    jar: Path,
    error: FlinkError,
) -> None:
    """Raises what there is to say after an upgrade that failed, with the old job running."""
    # The new job may have given up on a stop that the old one is still about.
    deadline = time.monotonic() + _UPGRADED_WITHIN_S
    while job_id in flink.alive(JOB_NAME):
        if not flink.is_stopping(job_id):
            raise FlinkError(f"{error}\nNothing was changed: job {job_id} goes on.") from error
        if time.monotonic() > deadline:
            raise FlinkError(
                f"{error}\nJob {job_id} has been asked to stop and has not ended yet: look "
                "(status), and if no job runs, submit; it begins where that one left off."
            ) from error
        time.sleep(1.0)
    try:
        savepoint, _ = flink.savepoint_since(job_id, began_ms)
    except FlinkError as second:
        raise FlinkError(
            f"{error}\n{second}. Submit: it begins where that one left off."
        ) from error
    last = error.job_id if isinstance(error, NotStartedError) else job_id
    listed = {str(known["id"]) for known in flink.jars()}
    jar_id = before.get(JAR_PARAMETER, "")
    policy_text = before.get(POLICY_PARAMETER)
    try:
        # From its own jar while the JobManager has it, and with its own policy in any case.
        if jar_id not in listed:
            jar_id = upload(flink, jar, policy_text)
        configuration = {} if policy_text is None else {POLICY_PARAMETER: policy_text}
        again = flink.run_jar(jar_id, savepoint, configuration)
        wait_until_running(flink, again, restored=True)
    except FlinkError as second:
        raise NeitherStartedError(
            f"{error}\n{second}\nNEITHER THE NEW JOB NOR THE OLD ONE STARTED: nothing is judged "
            f"now, and attempts wait in Kafka. Submit from {savepoint} once the cause is gone.",
            second.job_id if isinstance(second, NotStartedError) else last,
        ) from second
    raise RolledBackError(
        f"{error}\nThe new job did not start. The old one runs again from its savepoint, as job "
        f"{again}.",
        again,
        savepoint,
    ) from error


def savepoint(flink: FlinkRest) -> str:
    """Writes a savepoint of the live job, which goes on; its path."""
    job_id = only(flink)
    if job_id is None:
        raise FlinkError(f"{NONE_RUNS}: there is nothing to save")
    return flink.savepoint(job_id)


def stop(flink: FlinkRest) -> str | None:
    """Stops the live job with a savepoint; its path, None if no job runs."""
    job_id = only(flink)
    return None if job_id is None else flink.stop_with_savepoint(job_id)


def health(flink: FlinkRest) -> tuple[bool, str]:
    """Whether exactly one live job runs, and in words what does."""
    try:
        alive = flink.alive(JOB_NAME)
        if not alive:
            return False, NONE_RUNS
        if len(alive) > 1:
            return False, f"{len(alive)} jobs judge at once: cancel all but one: {', '.join(alive)}"
        job = flink.job(alive[0])
    except FlinkError as error:
        return False, f"not known: {error}"
    state = str(job["state"]).lower()
    if state == "running" and not _all_run(job):
        state = "starting"
    return state == "running", f"job {alive[0]} {state}"


def remembered_snapshot(flink: FlinkRest) -> str | None:
    """Where the last job of the name left off, of those that this JobManager remembers."""
    ended = [job for job in flink.jobs() if job["name"] == JOB_NAME]
    for job in sorted(ended, key=lambda job: -int(job["start-time"])):
        _wait_for_what_it_left(job)
        snapshot = left_off(flink, job["jid"])
        if snapshot is not None and not _lost_its_state(flink, job["jid"]):
            return snapshot
    return None


def _lost_its_state(flink: FlinkRest, job_id: str) -> bool:
    """Whether a job has begun without the state that it was given: then what it left is not it."""
    given = flink.parameters(job_id).get(BEGINS_FROM)
    return bool(given) and flink.restored_from(job_id) is None


def _wait_for_what_it_left(job: dict[str, Any]) -> None:
    """Until Flink tells of a job that has just ended the snapshot with which it did.

    It answers from memory that is as old as `web.refresh-interval`, 3 s by default.
    """
    ended_ago_s = time.time() - int(job.get("end-time", -1)) / 1_000
    time.sleep(min(max(_REMEMBERED_S - ended_ago_s, 0.0), _REMEMBERED_S))


def left_off(flink: FlinkRest, job_id: str) -> str | None:
    """A job's newest snapshot; before its first checkpoint the one that it has begun with."""
    return flink.newest_snapshot(job_id) or flink.restored_from(job_id)


def upload(flink: FlinkRest, jar: Path, policy_text: str | None) -> str:
    """Gives the JobManager the launcher jar, with a policy in it if one is given; the jar's id."""
    if policy_text is None:
        return flink.upload(jar)
    with tempfile.TemporaryDirectory(prefix="job-") as folder:
        carrying = with_settings(
            jar, Path(folder) / f"{JOB_NAME}.jar", {"policy_text": policy_text}
        )
        return flink.upload(carrying)


def forget_old_jars(flink: FlinkRest, say: Say) -> None:
    """Keeps the newest few that were uploaded: the last but one is what a roll-back runs.

    The image's own, which is under another id, stays.
    """
    ours = [jar for jar in flink.jars() if _UPLOADED.fullmatch(str(jar["id"]))]
    for jar in ours[_JARS_KEPT:]:
        try:
            flink.delete_jar(str(jar["id"]))
        except FlinkError as error:
            say(f"an old jar stays in the list: {error}")


def wait_until_running(flink: FlinkRest, job_id: str, *, restored: bool = False) -> int:
    """Returns when every task of a job runs, with Flink's clock in ms.

    Raises NotStartedError, which says why, when that does not happen, or when the job should have
    `restored` a state and has not; the job is cancelled then.
    """
    try:
        running_at = _wait_until_running(flink, job_id)
        if restored:
            _check_restored(flink, job_id)
    except FlinkError as error:
        with contextlib.suppress(FlinkError):
            flink.cancel(job_id)
            _wait_until_ended(flink, job_id)
        raise NotStartedError(str(error), job_id) from error
    return running_at


def _wait_until_ended(flink: FlinkRest, job_id: str) -> None:
    """A while: the next one is refused beside it, and wants its slot."""
    deadline = time.monotonic() + _ENDED_WITHIN_S
    while time.monotonic() < deadline and job_id in flink.alive(JOB_NAME):
        time.sleep(_POLL_S)


def _wait_until_running(flink: FlinkRest, job_id: str) -> int:
    began = time.monotonic()
    unheard: FlinkError | None = None
    failing_since: float | None = None
    why = ""
    while (waited := time.monotonic() - began) < _RUNNING_WITHIN_S:
        try:
            job = flink.job(job_id)
            if job["state"] == "FINISHED" or _all_run(job):
                return int(job["now"])
            failures = [root_cause(trace) for trace in flink.failures(job_id)]
            why = next(iter(failures), "")
        except FlinkError as error:
            if error.status is not None and error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
            # A JobManager that is too busy to answer once says nothing of the job.
            unheard = error
            time.sleep(_POLL_S)
            continue
        unheard = None
        if job["state"] in ENDED:
            raise FlinkError(f"the job is {job['state']}: {why}")
        if not _is_the_jobs_fault(flink, failures):
            failing_since = None
        elif failing_since is None:
            failing_since = waited
        elif waited - failing_since > _FAILS_FOR_S:
            raise FlinkError(
                _NO_SLOT_IN_WORDS
                if why.startswith(_NO_SLOT)
                else (f"the job fails whenever it starts, and was cancelled: {why}")
            )
        time.sleep(_POLL_S)
    if unheard is not None:
        raise unheard
    raise FlinkError(
        f"the job did not run after {waited:.0f} s and was cancelled" + (f": {why}" if why else "")
    )


def _is_the_jobs_fault(flink: FlinkRest, failures: list[str]) -> bool:
    """Not while a TaskManager is on its way, nor without a true answer, nor for a mere mishap."""
    if not failures:
        return False
    no_slot = failures[0].startswith(_NO_SLOT)
    kinds = [failure.partition(":")[0] for failure in failures]
    if not no_slot and kinds.count(kinds[0]) < _FAILS_TIMES:
        return False
    try:
        free, total = flink.slots()
    except FlinkError:
        return False
    return total > 0 and not (no_slot and free)


def _check_restored(flink: FlinkRest, job_id: str) -> None:
    if flink.restored_from(job_id) is None:
        raise FlinkError("the job has begun without the state that it was given")


def _all_run(job: dict[str, Any]) -> bool:
    return bool(job["vertices"]) and all(
        vertex["status"] in ("RUNNING", "FINISHED") for vertex in job["vertices"]
    )
