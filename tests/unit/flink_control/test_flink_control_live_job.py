"""An upgrade whose outcome nobody told."""

import zipfile
from pathlib import Path
from typing import Any

import pytest

from flink_control import live_job
from flink_control.rest import FlinkError, FlinkRest


class Silent(FlinkRest):
    """Runs one job, and does not answer when another one is to take its place."""

    def __init__(self, status: int | None) -> None:
        super().__init__("http://nowhere.invalid")
        self._status = status

    def jobs(self) -> list[dict[str, Any]]:
        return [{"jid": "old", "name": live_job.JOB_NAME, "state": "RUNNING"}]

    def job(self, job_id: str) -> dict[str, Any]:
        return {"state": "RUNNING"}

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
