"""What is looked at before a job is submitted to a session cluster, so that it is refused in words.

A job that another one judges beside, that gets no slot, or that does not find its topics would be
taken by the cluster all the same, and restart or wait for ever. Not in application mode: there the
cluster is the job's own, and one that begins again while Kafka is away must wait, not end.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from py4j.java_gateway import JavaClass
from py4j.protocol import Py4JJavaError
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.java_gateway import get_gateway

from flink_jobs import kafka_check
from flink_jobs.refusal import RefusedError
from flink_jobs.settings import Settings

_ENDED: Final = frozenset({"FINISHED", "FAILED", "CANCELED", "SUSPENDED"})
_REST_TIMEOUT_S: Final = 10.0
_READ_TRIES: Final = 3
_SLOT_WITHIN_S: Final = 3.0
_LOOK_EVERY_S: Final = 0.2
_REMEMBERED_S: Final = 3.5
_SAVEPOINT_EVERY_S: Final = 0.05
_SAVEPOINT_WITHIN_S: Final = 300.0
"""Whoever submits waits twice as long (flink_control), and submissions wait for each other."""
# Past the proxy that a JobManager's environment may name: it asks itself.
_DIRECTLY: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
SNAPSHOT: Final = "execution.state-recovery.path"
_PLANNING: Final = "StreamPlanEnvironment"
_SUBMITTING: Final = "StreamContextEnvironment"


class TrialOverError(Exception):
    """The job was built, which was all that was wanted."""


class _UnansweredError(Exception):
    """The JobManager's REST gave no answer, or one that is none."""


def own_environment() -> StreamExecutionEnvironment:
    """The environment of this submission: the launcher's, else the one at hand.

    PyFlink takes it from a static field, in which a submission at the same moment has left its own.
    """
    launcher = get_gateway().jvm.launcher.Launcher
    if not isinstance(launcher, JavaClass):  # not from its jar
        return StreamExecutionEnvironment.get_execution_environment()
    return StreamExecutionEnvironment(launcher.environment())


def is_trial(environment: StreamExecutionEnvironment) -> bool:
    """Whether the job is only built, to show or to try its plan, and not submitted."""
    return _kind(environment) == _PLANNING


def configuration(environment: StreamExecutionEnvironment) -> dict[str, str]:
    """Flink's own settings, as far as they are set, and those that came with the submission."""
    java = environment._j_stream_execution_environment.getConfiguration().toMap()  # noqa: SLF001 — no other way in
    return {str(name): str(java[name]) for name in java}


def check(
    environment: StreamExecutionEnvironment,
    settings: Settings,
    replaced: str | None = None,
    *,
    fresh: bool = False,
) -> None:
    """Raises RefusedError where the job could not run.

    Args:
        environment: of the submission.
        settings: of the job: its name, of which no other may run, and its topics.
        replaced: a job in whose place this one comes, with its state.
        fresh: whether it may begin without the state that an earlier one has left.
    """
    flink = configuration(environment)
    if "$internal.application.main" in flink:
        return
    if _kind(environment) == _SUBMITTING and flink.get("execution.target") == "embedded":
        _check_alone(flink, settings.job_name, replaced)
        if replaced is None:
            _check_slots(flink, environment.get_parallelism())
    if _kind(environment) in (_SUBMITTING, _PLANNING):
        read_before = kafka_check.check(settings)
        begins_anew = replaced is None and not flink.get(SNAPSHOT)
        if _kind(environment) == _SUBMITTING and read_before and begins_anew and not fresh:
            raise RefusedError(_without_state(flink, settings))


def rest_url(flink: Mapping[str, str]) -> str:
    """Where the JobManager that this runs in answers, by its own settings."""
    host = flink.get("rest.bind-address") or flink.get("rest.address", "127.0.0.1")
    if host in ("0.0.0.0", "::", "[::]", "localhost"):  # noqa: S104 — told, not bound
        host = "127.0.0.1"
    bound = flink.get("rest.bind-port", "")
    port = bound if bound.isdecimal() else flink.get("rest.port", "8081")
    scheme = "https" if flink.get("security.ssl.rest.enabled") == "true" else "http"
    return f"{scheme}://{host}:{port}"


def take_over(environment: StreamExecutionEnvironment, job_id: str) -> str:
    """Stops a job with a savepoint, in whose place another one is about to be; its path.

    In here, with the other one built already, and not by whoever submits it: nobody judges from
    now on, so nothing that takes time or that may fail is left for later.
    """
    return _stop(f"{rest_url(configuration(environment))}/jobs/{job_id}", job_id)


def _stop(url: str, job_id: str) -> str:
    try:
        trigger = _call(f"{url}/stop", {"drain": False})["request-id"]
    except _UnansweredError as error:
        raise RefusedError(f"job {job_id} could not be told to stop: {error}") from error
    deadline = time.monotonic() + _SAVEPOINT_WITHIN_S
    missed = ""
    while time.monotonic() < deadline:
        try:
            answer = _call(f"{url}/savepoints/{trigger}")
        except _UnansweredError as error:
            # It stops all the same: to give up now would leave nobody to judge.
            missed = f" ({error})"
        else:
            if answer["status"]["id"] == "COMPLETED":
                return _location(answer["operation"], job_id)
            missed = ""
        time.sleep(_SAVEPOINT_EVERY_S)
    raise RefusedError(
        f"job {job_id} has not ended with a savepoint within {_SAVEPOINT_WITHIN_S:.0f} s{missed}"
    )


def _location(operation: Mapping[str, Any], job_id: str) -> str:
    if "location" in operation:
        return str(operation["location"])
    trace = str(operation["failure-cause"]["stack-trace"])
    cause = trace.rsplit("Caused by: ", 1)[-1].split("\n\tat ", 1)[0].strip()
    raise RefusedError(f"job {job_id} could not be stopped with a savepoint: {cause}")


def _check_alone(flink: Mapping[str, str], job_name: str, replaced: str | None) -> None:
    alive = [
        job["jid"]
        for job in _look(f"{rest_url(flink)}/jobs/overview")["jobs"]
        if job["name"] == job_name and job["state"] not in _ENDED and job["jid"] != replaced
    ]
    if alive:
        raise RefusedError(
            f"a job named {job_name} already runs ({', '.join(alive)}): two would judge every "
            "attempt twice. Stop it with a savepoint first, and start this one from that "
            "savepoint's path (make upgrade, or python -m flink_control upgrade, does both)"
        )


def _check_slots(flink: Mapping[str, str], parallelism: int) -> None:
    if "kubernetes.internal.jobmanager.entrypoint.class" in flink:
        return  # such a cluster starts TaskManagers when it needs them
    wanted = 1 if flink.get("jobmanager.scheduler", "").lower() == "adaptive" else parallelism
    # A job that has just ended gives its slots back a moment later.
    deadline = time.monotonic() + _SLOT_WITHIN_S
    while (overview := _look(f"{rest_url(flink)}/overview"))["slots-available"] < wanted:
        if time.monotonic() > deadline:
            raise RefusedError(
                f"no free slot: the job needs {wanted}, and of the cluster's "
                f"{overview['slots-total']} slots {overview['slots-available']} are free. Start "
                "another TaskManager, or end another job"
            )
        time.sleep(_LOOK_EVERY_S)


def _without_state(flink: Mapping[str, str], settings: Settings) -> str:
    name = settings.job_name
    newest = _newest_snapshot(flink, name)
    folder = flink.get("execution.checkpointing.dir", "its checkpoint folder")
    where = (
        f"this JobManager remembers none: look for the newest chk-… or savepoint-… in {folder}"
        if newest is None
        else f"its newest is {newest}"
    )
    return (
        f"job {name} has read {settings.attempts_topic} before (Kafka keeps its offsets) and would "
        "begin without the state it left: levels would be lost, and blocks that stand could not be "
        f"lifted. Name its snapshot as Savepoint Path (submit --from); {where}. To begin anew all "
        "the same: submit --fresh, or DETECTOR_FRESH_START=true for the JobManager"
    )


def _newest_snapshot(flink: Mapping[str, str], job_name: str) -> str | None:
    """Of the last job of the name that this JobManager remembers, and that has left one."""
    url = rest_url(flink)
    try:
        known = [job for job in _call(f"{url}/jobs/overview")["jobs"] if job["name"] == job_name]
        for job in sorted(known, key=lambda job: -int(job["start-time"])):
            # Flink answers from memory of the last 3 s: one that has just ended has left more.
            ended_ago_s = time.time() - int(job.get("end-time", -1)) / 1_000
            time.sleep(min(max(_REMEMBERED_S - ended_ago_s, 0.0), _REMEMBERED_S))
            latest = _call(f"{url}/jobs/{job['jid']}/checkpoints")["latest"]
            left = [it for it in (latest["completed"], latest["savepoint"]) if it is not None]
            newest = max(left, key=lambda it: int(it["trigger_timestamp"]), default=None)
            if newest is not None:
                return str(newest["external_path"])
    except (_UnansweredError, KeyError):
        return None  # the refusal counts, and tells where to look all the same
    return None


def _look(url: str) -> Any:  # noqa: ANN401 — JSON
    try:
        return _call(url)
    except _UnansweredError as error:
        raise RefusedError(
            f"{error}. DETECTOR_PREFLIGHT=false submits without a look whether the job runs already"
        ) from error


def _call(url: str, body: Mapping[str, object] | None = None) -> Any:  # noqa: ANN401 — JSON
    request = urllib.request.Request(  # noqa: S310 — our own scheme
        url,
        None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        return _answer(request, _READ_TRIES if body is None else 1)
    except (OSError, ValueError) as error:
        raise _UnansweredError(
            f"this JobManager's own REST does not answer at {url}: {error}"
        ) from error


def _answer(request: urllib.request.Request, tries: int) -> Any:  # noqa: ANN401 — JSON
    while True:
        tries -= 1
        try:
            with _DIRECTLY.open(request, timeout=_REST_TIMEOUT_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            # Flink 2.2 makes percentiles of checkpoints lazily and without a lock: of two who read
            # those of a job at the same moment it may fail one.
            if error.code != HTTPStatus.INTERNAL_SERVER_ERROR or not tries:
                raise
        time.sleep(_LOOK_EVERY_S)


def root_cause(error: Py4JJavaError) -> str:
    """The innermost of a Java exception's causes, which is where the reason stands."""
    cause = error.java_exception
    while cause.getCause() is not None:
        cause = cause.getCause()
    return f"{cause.getClass().getSimpleName()}: {cause.getMessage()}"


def _kind(environment: StreamExecutionEnvironment) -> str:
    return str(environment._j_stream_execution_environment.getClass().getSimpleName())  # noqa: SLF001 — no other way in
