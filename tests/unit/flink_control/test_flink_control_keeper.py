"""What the keeper makes of what it sees; on a JobManager of a few lines."""

import zipfile
from pathlib import Path
from typing import Any

import pytest

from flink_control import live_job
from flink_control.keeper import Keeper
from flink_control.rest import FlinkError, FlinkRest
from flink_control.snapshots import Snapshots

NAME = live_job.JOB_NAME


class FakeFlink(FlinkRest):
    """A session cluster: jobs by id, the newest last."""

    def __init__(self) -> None:
        super().__init__("http://nowhere.invalid")
        self.states: dict[str, str] = {}
        self.began_from: dict[str, str | None] = {}
        self.given: dict[str, str] = {}
        """What a job was to begin from, where it tells so."""
        self.completed: dict[str, str] = {}
        self.free_slots = 1
        self.away = False
        self.refusal: str | None = None
        self.configurations: dict[str, dict[str, str]] = {}
        self.hidden_at_first = False
        """The jobs, from the next who asks for them: they come a moment later."""
        self.starts = True
        """False: a job that is submitted fails."""

    def jobs(self) -> list[dict[str, Any]]:
        if self.away:
            raise FlinkError("Flink does not answer")
        if self.hidden_at_first:
            self.hidden_at_first = False
            return []
        return [
            {"jid": job_id, "name": NAME, "state": state, "start-time": number}
            for number, (job_id, state) in enumerate(self.states.items())
        ]

    def job(self, job_id: str) -> dict[str, Any]:
        state = self.states[job_id]
        return {"state": state, "now": 1, "vertices": [{"status": state}]}

    def failures(self, job_id: str) -> list[str]:
        return [] if self.states[job_id] == "RUNNING" else ["why"]

    def slots(self) -> tuple[int, int]:
        return self.free_slots, 1

    def newest_snapshot(self, job_id: str) -> str | None:
        return self.completed.get(job_id)

    def restored_from(self, job_id: str) -> str | None:
        return self.began_from.get(job_id)

    def parameters(self, job_id: str) -> dict[str, str]:
        return {live_job.BEGINS_FROM: self.given.get(job_id, "")}

    def upload(self, jar: Path, name: str | None = None) -> str:
        return f"id_{jar.name}"

    def run_jar(
        self,
        jar_id: str,
        savepoint: str | None = None,
        configuration: dict[str, str] | None = None,
        timeout_s: float = 1.0,
    ) -> str:
        job_id = f"job{len(self.began_from) + 1}"
        if self.refusal is not None:
            raise FlinkError(self.refusal, 400)
        self.began_from[job_id] = savepoint
        self.configurations[job_id] = configuration or {}
        self.states[job_id] = "RUNNING" if self.starts else "FAILED"
        return job_id

    def cancel(self, job_id: str) -> None:
        self.states[job_id] = "CANCELED"

    def jars(self) -> list[dict[str, Any]]:
        return []

    def delete_jar(self, jar_id: str) -> None:
        pass

    def forget_all(self) -> None:
        """As a JobManager that restarts."""
        self.states.clear()


@pytest.fixture
def flink() -> FakeFlink:
    return FakeFlink()


@pytest.fixture
def kept(tmp_path: Path) -> Snapshots:
    return Snapshots(tmp_path / "checkpoints", tmp_path / "last-job.json")


@pytest.fixture
def keeper(flink: FakeFlink, kept: Snapshots, tmp_path: Path) -> Keeper:
    jar = tmp_path / "block-detector.jar"
    with zipfile.ZipFile(jar, "w") as content:
        content.writestr("META-INF/MANIFEST.MF", "Main-Class: launcher.Launcher\n")
        content.writestr("job/flink_jobs/block_detector.py", "")
    return Keeper(flink, jar, kept)


def test_first_job_is_started_from_nothing(flink: FakeFlink, keeper: Keeper) -> None:
    keeper.look()
    keeper.look()

    assert flink.began_from == {"job1": None}


def test_jobmanager_that_forgot_gets_the_job_again_from_its_newest_snapshot(
    flink: FakeFlink, keeper: Keeper
) -> None:
    keeper.look()
    flink.completed["job1"] = "file:///chk-7"
    keeper.look()

    flink.forget_all()
    keeper.look()
    keeper.look()

    assert flink.began_from == {"job1": None, "job2": "file:///chk-7"}


def test_failed_job_is_started_again(flink: FakeFlink, keeper: Keeper) -> None:
    keeper.look()
    flink.completed["job1"] = "file:///chk-7"
    flink.states["job1"] = "FAILED"

    keeper.look()

    assert flink.began_from["job2"] == "file:///chk-7"


@pytest.mark.parametrize("state", ["FINISHED", "CANCELED"])
def test_job_that_somebody_ended_stays_ended_until_the_jobmanager_restarts(
    flink: FakeFlink, keeper: Keeper, state: str
) -> None:
    keeper.look()
    flink.states["job1"] = state
    flink.completed["job1"] = "file:///savepoint-1"
    keeper.look()
    assert list(flink.began_from) == ["job1"]

    flink.forget_all()
    keeper.look()

    assert flink.began_from["job2"] == "file:///savepoint-1"


def test_job_that_ended_before_its_first_checkpoint_is_followed_by_one_from_where_it_began(
    flink: FakeFlink, keeper: Keeper, kept: Snapshots
) -> None:
    flink.states["older"] = "FAILED"
    flink.completed["older"] = "file:///chk-7"
    # By clicks, from a savepoint that was newer than the older one's checkpoints.
    flink.states["job1"], flink.began_from["job1"] = "RUNNING", "file:///savepoint-8"
    keeper.look()
    assert kept.newest() == "file:///savepoint-8"
    flink.states["job1"] = "FAILED"

    keeper.look()

    assert flink.began_from["job2"] == "file:///savepoint-8"


def test_after_an_upgrade_of_which_neither_job_started_it_tries_again(
    flink: FakeFlink, keeper: Keeper, kept: Snapshots
) -> None:
    keeper.look()
    flink.states["job1"], flink.completed["job1"] = "FINISHED", "file:///savepoint-1"
    flink.states["new"] = "CANCELED"
    keeper.look()
    assert list(flink.began_from) == ["job1"]

    kept.remember_failure("new")
    keeper.look()

    assert flink.began_from["job2"] == "file:///savepoint-1"


def test_refusal_to_begin_without_state_is_told(
    flink: FakeFlink, keeper: Keeper, capsys: pytest.CaptureFixture[str]
) -> None:
    flink.refusal = "would begin without the state it left"

    keeper.look()
    keeper.look()

    assert capsys.readouterr().out == "would begin without the state it left\n"
    assert flink.began_from == {}


def test_fresh_start_takes_no_state_and_leaves_none_of_before_in_the_record(
    flink: FakeFlink, keeper: Keeper, kept: Snapshots, tmp_path: Path
) -> None:
    flink.states["older"], flink.completed["older"] = "FAILED", "file:///chk-7"
    kept.remember("older", "file:///chk-7")

    submitted = live_job.submit(flink, tmp_path / "block-detector.jar", fresh=True, kept=kept)
    keeper.look()

    assert flink.began_from == {submitted.job_id: None}
    assert flink.configurations == {submitted.job_id: {live_job.FRESH: "true"}}
    assert kept.newest() is None


def test_job_that_did_not_start_is_tried_again(flink: FakeFlink, keeper: Keeper) -> None:
    flink.starts = False
    keeper.look()
    keeper.look()
    assert list(flink.began_from) == ["job1", "job2"]

    flink.starts = True
    keeper.look()

    assert flink.alive(NAME) == ["job3"]


def test_job_that_somebody_submitted_and_that_did_not_start_is_tried_again(
    flink: FakeFlink, keeper: Keeper, kept: Snapshots, tmp_path: Path
) -> None:
    flink.starts = False
    with pytest.raises(live_job.NotStartedError, match="the job is FAILED: why"):
        live_job.submit(flink, tmp_path / "block-detector.jar", kept=kept)

    flink.starts = True
    keeper.look()

    assert flink.alive(NAME) == ["job2"]


@pytest.mark.parametrize("state", ["RUNNING", "RESTARTING", "CANCELLING", "CREATED"])
def test_beside_a_job_that_lives_none_is_started(
    flink: FakeFlink, keeper: Keeper, state: str
) -> None:
    flink.states["by-hand"] = state

    keeper.look()

    assert flink.began_from == {}


def test_job_that_lost_the_state_it_was_given_is_followed_by_one_from_before_it(
    flink: FakeFlink, keeper: Keeper, kept: Snapshots, tmp_path: Path
) -> None:
    """Though it has written a checkpoint: of what it has judged since, and of nothing before."""
    flink.states["older"], flink.completed["older"] = "FAILED", "file:///chk-7"
    flink.states["lost"], flink.completed["lost"] = "CANCELED", "file:///chk-1"
    flink.given["lost"], flink.began_from["lost"] = "file:///chk-7", None
    kept.remember_failure("lost")

    keeper.look()

    assert flink.began_from["job2"] == "file:///chk-7"


def test_snapshot_that_is_named_counts_and_no_other(
    flink: FakeFlink, kept: Snapshots, keeper: Keeper, tmp_path: Path
) -> None:
    keeper.look()
    flink.states["job1"], flink.completed["job1"] = "FAILED", "file:///chk-7"
    jar = tmp_path / "block-detector.jar"

    submitted = live_job.submit(flink, jar, snapshot="file:///savepoint-3", kept=kept)

    assert flink.began_from[submitted.job_id] == "file:///savepoint-3"
    assert kept.newest() == "file:///savepoint-3"


def test_who_submits_beside_a_job_that_runs_notes_that_one(
    flink: FakeFlink, kept: Snapshots, keeper: Keeper, tmp_path: Path
) -> None:
    flink.states["by-hand"] = "RUNNING"

    live_job.submit(flink, tmp_path / "block-detector.jar", kept=kept)
    assert kept.last_job() == "by-hand"

    flink.states.clear()
    flink.states["winner"] = "RUNNING"
    flink.refusal = "a job named block-detector already runs (winner)"
    flink.hidden_at_first = True
    live_job.submit(flink, tmp_path / "block-detector.jar", kept=kept)
    assert kept.last_job() == "winner"


def test_job_that_cannot_be_noted_runs_all_the_same(
    flink: FakeFlink, tmp_path: Path, keeper: Keeper
) -> None:
    nowhere = Snapshots(tmp_path / "gone", tmp_path / "gone" / "last-job.json")
    told: list[str] = []

    submitted = live_job.submit(
        flink, tmp_path / "block-detector.jar", kept=nowhere, say=told.append
    )

    assert flink.alive(NAME) == [submitted.job_id]
    assert told[0].startswith("not noted for a later start: [Errno 2]")


def test_two_jobs_are_told_and_left_alone(
    flink: FakeFlink, keeper: Keeper, capsys: pytest.CaptureFixture[str]
) -> None:
    flink.states.update({"a": "RUNNING", "b": "RUNNING"})

    keeper.look()

    assert "2 jobs named block-detector run at once: a, b" in capsys.readouterr().out
    assert flink.began_from == {}


def test_without_a_jobmanager_or_a_slot_it_waits_and_says_so_once(
    flink: FakeFlink, keeper: Keeper, capsys: pytest.CaptureFixture[str]
) -> None:
    flink.away = True
    keeper.look()
    keeper.look()
    flink.away, flink.free_slots = False, 0
    keeper.look()

    told = capsys.readouterr().out.splitlines()
    assert told == [
        "Flink does not answer",
        "no job runs, and no slot is free: is the TaskManager up?",
    ]
    assert flink.began_from == {}
