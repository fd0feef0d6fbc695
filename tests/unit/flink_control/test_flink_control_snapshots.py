import os
from pathlib import Path

import pytest

from flink_control.snapshots import Snapshots

JOB = "a36cd883039c1cb4ba292b93d8242494"
OTHER = "b46cd883039c1cb4ba292b93d8242494"


@pytest.fixture
def kept(tmp_path: Path) -> Snapshots:
    (tmp_path / "checkpoints").mkdir()
    return Snapshots(tmp_path / "checkpoints", tmp_path / "last-job.json")


def complete(kept: Snapshots, name: str, at: int) -> str:
    folder = kept.folder / name
    folder.mkdir(parents=True)
    (folder / "_metadata").touch()
    os.utime(folder / "_metadata", (at, at))
    return f"file://{folder}"


def test_where_nothing_ran_nothing_is_known(kept: Snapshots) -> None:
    complete(kept, f"{OTHER}/chk-1", 1)

    assert (kept.last_job(), kept.newest()) == (None, None)


def test_newest_is_the_last_complete_one_of_the_last_job(kept: Snapshots) -> None:
    kept.remember(JOB, None)
    complete(kept, f"{JOB}/chk-9", 1)
    newest = complete(kept, f"{JOB}/chk-10", 2)
    complete(kept, f"{OTHER}/chk-11", 3)
    (kept.folder / JOB / "chk-12").mkdir()

    assert kept.newest() == newest

    savepoint = complete(kept, f"savepoint-{JOB[:6]}-1234", 4)
    complete(kept, f"savepoint-{OTHER[:6]}-1234", 5)

    assert kept.newest() == savepoint


def test_job_without_a_snapshot_of_its_own_counts_from_where_it_began(kept: Snapshots) -> None:
    kept.remember(JOB, "file:///elsewhere/savepoint-1")
    assert kept.newest() == "file:///elsewhere/savepoint-1"

    kept.remember(OTHER, None)
    assert kept.newest() == "file:///elsewhere/savepoint-1"

    own = complete(kept, f"{OTHER}/chk-1", 1)
    assert kept.newest() == own


def test_half_written_record_is_as_none(kept: Snapshots) -> None:
    kept.record.write_text('{"id": "a3')

    assert kept.newest() is None
    kept.remember(JOB, None)
    assert kept.last_job() == JOB


def test_failed_start_is_noted_beside_the_last_job(kept: Snapshots) -> None:
    kept.remember(JOB, "file:///a")
    kept.remember_failure(OTHER)

    assert kept.did_not_start(OTHER)
    assert not kept.did_not_start(JOB)
    assert (kept.last_job(), kept.newest()) == (JOB, "file:///a")
    kept.remember(JOB, "file:///b")
    assert kept.did_not_start(OTHER)
