from collections.abc import Iterator
from typing import Any

import pytest

from flink_jobs import preflight
from flink_jobs.preflight import rest_url
from flink_jobs.refusal import RefusedError
from flink_jobs.settings import Settings

ANY = "0.0.0.0"  # noqa: S104 — told, not bound


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({}, "http://127.0.0.1:8081"),
        ({"rest.address": "flink-jobmanager", "rest.port": "81"}, "http://flink-jobmanager:81"),
        # Its own pod, past any service: no network policy need let it reach itself.
        ({"rest.address": "jm", "rest.bind-address": ANY}, "http://127.0.0.1:8081"),
        ({"rest.bind-address": "localhost", "rest.bind-port": "99"}, "http://127.0.0.1:99"),
        ({"rest.bind-address": "10.1.2.3", "rest.bind-port": "90-99"}, "http://10.1.2.3:8081"),
        ({"security.ssl.rest.enabled": "true"}, "https://127.0.0.1:8081"),
    ],
)
def test_jobmanager_is_asked_where_it_listens(settings: dict[str, str], url: str) -> None:
    assert rest_url(settings) == url


class Clock:
    """Goes on when it is slept by."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1_795_500_000.0 + self.monotonic()

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "time", Clock())


def answering(monkeypatch: pytest.MonkeyPatch, answers: Iterator[Any]) -> None:
    def call(_url: str, _body: object = None) -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(preflight, "_call", call)


def under_way() -> Iterator[Any]:
    yield {"request-id": "1"}
    while True:
        yield {"status": {"id": "IN_PROGRESS"}}


def done(operation: object) -> dict[str, Any]:
    return {"status": {"id": "COMPLETED"}, "operation": operation}


def test_stop_goes_on_when_an_answer_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    missed = preflight._UnansweredError("busy")
    answers = [{"request-id": "1"}, missed, missed, done({"location": "file:/savepoint-1"})]
    answering(monkeypatch, iter(answers))

    assert preflight._stop("http://jm/jobs/old", "old") == "file:/savepoint-1"


def test_stop_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, under_way())

    with pytest.raises(RefusedError, match="job old has not ended with a savepoint within 300 s"):
        preflight._stop("http://jm/jobs/old", "old")


def test_savepoint_that_failed_is_told_by_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    trace = "a.Outer: no\n\tat a.B\nCaused by: java.io.IOException: disk full\n\tat c.D\n"
    failed = done({"failure-cause": {"stack-trace": trace}})
    answering(monkeypatch, iter([{"request-id": "1"}, failed]))

    with pytest.raises(RefusedError, match=r"savepoint: java\.io\.IOException: disk full$"):
        preflight._stop("http://jm/jobs/old", "old")


def looked_at(monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any]) -> None:
    def call(url: str, _body: object = None) -> object:
        if url not in answers:
            raise preflight._UnansweredError("busy")
        return answers[url]

    monkeypatch.setattr(preflight, "_call", call)


def snapshot(path: str, at: int) -> dict[str, Any]:
    return {"external_path": path, "trigger_timestamp": at}


FLINK = {"execution.checkpointing.dir": "file:///checkpoints"}
JOBS = [
    {"jid": "older", "name": "block-detector", "start-time": 1},
    {"jid": "last", "name": "block-detector", "start-time": 2},
    {"jid": "other", "name": "replay", "start-time": 3},
]
OLDER = {"completed": snapshot("file:/chk-7", 7), "savepoint": snapshot("file:/savepoint-8", 8)}


@pytest.mark.parametrize(
    ("last", "where"),
    [
        ({"completed": snapshot("file:/chk-9", 9), "savepoint": None}, "newest is file:/chk-9."),
        ({"completed": None, "savepoint": None}, "newest is file:/savepoint-8."),
        (None, "newest chk-… or savepoint-… in file:///checkpoints."),
    ],
)
def test_job_without_its_state_is_told_where_that_is(
    monkeypatch: pytest.MonkeyPatch, last: dict[str, Any] | None, where: str
) -> None:
    jobs = "http://127.0.0.1:8081/jobs"
    answers: dict[str, Any] = {f"{jobs}/overview": {"jobs": JOBS}}
    if last is not None:
        answers[f"{jobs}/last/checkpoints"] = {"latest": last}
        answers[f"{jobs}/older/checkpoints"] = {"latest": OLDER}
    looked_at(monkeypatch, answers)

    told = preflight._without_state(FLINK, Settings(kafka_bootstrap="nowhere:9092"))

    assert where in told
    assert "submit --fresh, or DETECTOR_FRESH_START=true" in told
