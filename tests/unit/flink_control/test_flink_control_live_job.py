"""An upgrade whose outcome nobody told, or told late."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flink_control import __main__ as command_line
from flink_control import live_job
from flink_control.rest import FlinkError, FlinkRest
from flink_control.snapshots import Snapshots


class Silent(FlinkRest):
    """Runs one job, and does not answer when another one is to take its place."""

    def __init__(self, status: int | None) -> None:
        super().__init__("http://nowhere.invalid")
        self._status = status
        self.history: list[dict[str, Any]] = []

    def jobs(self) -> list[dict[str, Any]]:
        return [{"jid": "old", "name": live_job.JOB_NAME, "state": "RUNNING", "start-time": 1}]

    def job(self, job_id: str) -> dict[str, Any]:
        return {"state": "RUNNING", "now": 1_000}

    def checkpoints(self, job_id: str) -> dict[str, Any]:
        return {"history": self.history, "latest": {"savepoint": None, "restored": None}}

    def parameters(self, job_id: str) -> dict[str, str]:
        return {}

    def upload(self, jar: Path, name: str | None = None) -> str:
        return "id"

    def delete_jar(self, jar_id: str) -> None:
        pass

    def run_jar(
        self,
        jar_id: str,
        savepoint: str | None = None,
        configuration: dict[str, str] | None = None,
        timeout_s: float = 1.0,
    ) -> str:
        assert configuration == {live_job.REPLACES: "old"}
        raise FlinkError("told", self._status)


@pytest.fixture
def jar(tmp_path: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "block-detector.jar", "w") as content:
        content.writestr("META-INF/MANIFEST.MF", "Main-Class: launcher.Launcher\n")
        content.writestr("job/flink_jobs/block_detector.py", "")
    return tmp_path / "block-detector.jar"


def test_refused_upgrade_says_that_the_old_job_goes_on(jar: Path) -> None:
    with pytest.raises(FlinkError, match="told\nNothing was changed: job old goes on"):
        live_job.upgrade(Silent(400), jar)


def test_upgrade_without_an_answer_claims_nothing(jar: Path) -> None:
    with pytest.raises(live_job.NoAnswerError, match="told\nWhether job old was stopped is not"):
        live_job.upgrade(Silent(None), jar)


class Stopping(Silent):
    """Gives an upgrade up while the old job is still about its savepoint; then that one ends."""

    def __init__(self) -> None:
        super().__init__(400)
        self.history = [
            {"id": 8, "checkpoint_type": "CHECKPOINT", "status": "COMPLETED"},
            {"id": 9, "checkpoint_type": "SYNC_SAVEPOINT", "status": "IN_PROGRESS"},
        ]
        self.submitted_from: list[str | None] = []

    def jobs(self) -> list[dict[str, Any]]:
        return [] if self.history[1]["status"] == "COMPLETED" else super().jobs()

    def is_stopping(self, job_id: str) -> bool:
        stopping = super().is_stopping(job_id)
        self.history[1]["status"] = "COMPLETED"
        return stopping

    def checkpoints(self, job_id: str) -> dict[str, Any]:
        # One that was written before the upgrade does not hold what was judged since.
        ordered = 1_500 if self.history[1]["status"] == "COMPLETED" else 500
        last = {"external_path": f"file:/savepoint-{ordered}", "trigger_timestamp": ordered}
        restored = {"external_path": self.submitted_from[-1]} if self.submitted_from else None
        return {"history": self.history, "latest": {"savepoint": last, "restored": restored}}

    def jars(self) -> list[dict[str, Any]]:
        return []

    def job(self, job_id: str) -> dict[str, Any]:
        return {"state": "RUNNING", "now": 1_000, "vertices": [{"status": "RUNNING"}]}

    def run_jar(
        self,
        jar_id: str,
        savepoint: str | None = None,
        configuration: dict[str, str] | None = None,
        timeout_s: float = 1.0,
    ) -> str:
        if savepoint is None:
            raise FlinkError("told", 400)
        self.submitted_from.append(savepoint)
        return "again"


def test_job_that_still_stops_when_its_upgrade_fails_is_waited_for_and_started_again(
    jar: Path,
) -> None:
    flink = Stopping()

    with pytest.raises(live_job.RolledBackError, match="told\nThe new job did not start"):
        live_job.upgrade(flink, jar)

    assert flink.submitted_from == ["file:/savepoint-1500"]


def test_job_that_runs_after_a_failed_upgrade_is_named(jar: Path) -> None:
    with pytest.raises(live_job.RolledBackError) as rolled_back:
        live_job.upgrade(Stopping(), jar)

    assert rolled_back.value.job_id == "again"
    assert rolled_back.value.savepoint == "file:/savepoint-1500"


class NeverAgain(Stopping):
    """The old job does not come back either."""

    def run_jar(
        self,
        jar_id: str,
        savepoint: str | None = None,
        configuration: dict[str, str] | None = None,
        timeout_s: float = 1.0,
    ) -> str:
        raise FlinkError("Kafka is away", 400)


def test_upgrade_of_which_neither_job_started_is_noted_for_the_keeper(
    jar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command_line, "FlinkRest", lambda _: NeverAgain())
    arguments = ["upgrade", "--jar", str(jar), "--checkpoints", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["flink_control", *arguments])

    assert command_line.main() == 1

    assert "NEITHER THE NEW JOB NOR THE OLD ONE STARTED" in capsys.readouterr().err
    assert Snapshots(tmp_path, tmp_path / "last-job.json").did_not_start("old")


class Late(Silent):
    """Another one submits the job between this one's look and its submission."""

    def __init__(self, refusal: str) -> None:
        super().__init__(400)
        self._refusal = refusal
        self._there = False

    def jobs(self) -> list[dict[str, Any]]:
        return super().jobs() if self._there else []

    def run_jar(
        self,
        jar_id: str,
        savepoint: str | None = None,
        configuration: dict[str, str] | None = None,
        timeout_s: float = 1.0,
    ) -> str:
        self._there = True
        raise FlinkError(self._refusal, 400)


def test_who_submits_a_moment_too_late_is_told_that_the_job_runs(jar: Path) -> None:
    refused = Late("a job named block-detector already runs (old): two would judge")

    assert live_job.submit(refused, jar) == live_job.Submitted("old", None, fresh=False)


def test_other_refusal_is_told_though_another_job_came_meanwhile(jar: Path) -> None:
    with pytest.raises(FlinkError, match="wrong policy"):
        live_job.submit(Late("wrong policy"), jar)


@pytest.mark.parametrize(
    ("newest", "stopping"),
    [
        (("SYNC_SAVEPOINT", "IN_PROGRESS"), True),
        (("SYNC_SAVEPOINT", "COMPLETED"), True),
        (("SYNC_SAVEPOINT", "FAILED"), False),
        (("SAVEPOINT", "IN_PROGRESS"), False),
        (("CHECKPOINT", "COMPLETED"), False),
    ],
)
def test_job_stops_while_its_newest_snapshot_is_the_one_it_ends_with(
    newest: tuple[str, str], *, stopping: bool
) -> None:
    flink = Silent(None)
    assert not flink.is_stopping("old")
    flink.history = [
        {"id": 10, "checkpoint_type": newest[0], "status": newest[1]},
        {"id": 9, "checkpoint_type": "SYNC_SAVEPOINT", "status": "COMPLETED"},
    ]

    assert flink.is_stopping("old") is stopping


class Busy(Silent):
    """Does not answer a while when it is asked for a job that has been submitted."""

    def __init__(self, status: int | None, times: int) -> None:
        super().__init__(status)
        self._left = times
        self.cancelled: list[str] = []

    def job(self, job_id: str) -> dict[str, Any]:
        if self._left > 0:
            self._left -= 1
            raise FlinkError("busy", self._status)
        return {"state": "RUNNING", "now": 7, "vertices": [{"status": "RUNNING"}]}

    def cancel(self, job_id: str) -> None:
        self.cancelled.append(job_id)


@pytest.mark.parametrize("status", [None, 500, 503])
def test_job_is_not_cancelled_for_an_answer_that_was_missed(status: int | None) -> None:
    flink = Busy(status, times=2)

    assert live_job.wait_until_running(flink, "new") == 7
    assert flink.cancelled == []


class Clock:
    """Goes on when it is slept by."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Failing(Busy):
    """A job that is never whole; what is told of the cluster's slots follows the clock."""

    def __init__(self, why: str, slots: Callable[[float], tuple[int, int] | None]) -> None:
        super().__init__(None, times=0)
        self.clock = Clock()
        self._why = why
        self._slots = slots

    def jobs(self) -> list[dict[str, Any]]:
        return []

    def job(self, job_id: str) -> dict[str, Any]:
        return {"state": "RESTARTING", "now": 7, "vertices": [{"status": "CREATED"}]}

    def failures(self, job_id: str) -> list[str]:
        return [f"a.b.{kind}: told\n\tat c.D" for kind in self._why.split()]

    def slots(self) -> tuple[int, int]:
        answer = self._slots(self.clock.now)
        if answer is None:
            raise FlinkError("busy")
        return answer


@pytest.mark.parametrize(
    ("why", "slots", "told", "after_s"),
    [
        pytest.param(
            "NoResourceAvailableException", lambda _: (0, 2), "no slot became", 15, id="none free"
        ),
        pytest.param(
            "NoResourceAvailableException",
            lambda now: None if 12 < now < 13 else (0, 2),
            "no slot became",
            28,
            id="once without an answer",
        ),
        pytest.param(
            "NoResourceAvailableException",
            lambda now: (0, 0) if now < 60 else (0, 1),
            "no slot became",
            75,
            id="TaskManager comes, and is taken",
        ),
        pytest.param(
            "NoResourceAvailableException", lambda _: (1, 2), "did not run", 120, id="one free"
        ),
        pytest.param(
            "NoResourceAvailableException", lambda _: None, "did not run", 120, id="no answer"
        ),
        pytest.param("Lost Lost Lost", lambda _: (0, 0), "did not run", 120, id="no TaskManager"),
        pytest.param("Lost Other Lost", lambda _: (1, 1), "did not run", 120, id="mishaps"),
        pytest.param("No No No", lambda _: (1, 1), "fails whenever it starts", 15, id="at fault"),
    ],
)
def test_job_is_cancelled_only_for_what_is_true_all_the_while(
    monkeypatch: pytest.MonkeyPatch,
    why: str,
    slots: Callable[[float], tuple[int, int] | None],
    told: str,
    after_s: int,
) -> None:
    flink = Failing(why, slots)
    monkeypatch.setattr(live_job, "time", flink.clock)

    with pytest.raises(live_job.NotStartedError, match=told):
        live_job.wait_until_running(flink, "new")

    assert flink.clock.now == pytest.approx(after_s, abs=1)
    assert flink.cancelled == ["new"]


def test_job_that_nobody_knows_any_more_is_told_at_once() -> None:
    flink = Busy(404, times=10_000)

    with pytest.raises(live_job.NotStartedError, match="busy"):
        live_job.wait_until_running(flink, "new")


def test_cancelled_job_has_ended_before_its_place_is_given_away() -> None:
    flink = Busy(404, times=10_000)
    states = iter(["CANCELLING", "CANCELLING", "CANCELED"])
    seen = []

    def jobs() -> list[dict[str, Any]]:
        seen.append(next(states))
        return [{"jid": "new", "name": live_job.JOB_NAME, "state": seen[-1]}]

    flink.jobs = jobs  # type: ignore[method-assign]
    with pytest.raises(live_job.NotStartedError):
        live_job.wait_until_running(flink, "new")

    assert flink.cancelled == ["new"]
    assert seen[-1] == "CANCELED"


def test_submission_waits_for_a_slot_but_not_for_the_one_that_the_job_has_taken(
    jar: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else each further `docker compose up` would wait in vain for as long as it may."""
    monkeypatch.setattr(Silent, "slots", lambda _: (0, 1))
    monkeypatch.setattr(command_line, "FlinkRest", lambda _: Silent(None))
    monkeypatch.setattr(Silent, "newest_snapshot", lambda *_: None)
    arguments = ["flink_control", "submit", "--jar", str(jar), "--wait", "3600"]
    monkeypatch.setattr("sys.argv", arguments)

    assert command_line.main() == 0

    assert capsys.readouterr().out == "job old already runs\n"


def test_address_without_http_is_told_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["flink_control", "status", "--flink", "127.0.0.1:8081"])

    assert command_line.main() == 1

    told = capsys.readouterr().err
    assert told == "127.0.0.1:8081 is no address of a JobManager: http://host:8081\n"


def test_submission_that_may_wait_tries_again_what_did_not_start(
    jar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A host whose parts have all just started loses a TaskManager out of sight now and then."""
    outcomes: list[Exception | live_job.Submitted] = [
        live_job.NotStartedError("lost", "first"),
        live_job.Submitted("new", None, fresh=True),
    ]
    tries = iter(outcomes)

    noted_in: list[object] = []

    def submit(*_: object, kept: object, **__: object) -> live_job.Submitted:
        noted_in.append(kept)
        came = next(tries)
        if isinstance(came, Exception):
            raise came
        return came

    monkeypatch.setattr(command_line, "FlinkRest", lambda _: Silent(None))
    monkeypatch.setattr(command_line, "_can_begin", lambda _: True)
    monkeypatch.setattr(live_job, "submit", submit)
    arguments = ["flink_control", "submit", "--jar", str(jar), "--wait", "3600"]
    monkeypatch.setattr("sys.argv", [*arguments, "--checkpoints", str(tmp_path)])

    assert command_line.main() == 0

    assert capsys.readouterr().out == "lost; once more\njob new runs, from no earlier state\n"
    assert noted_in == [Snapshots(tmp_path, tmp_path / "last-job.json")] * 2
