"""Submission and upgrade by REST on a session cluster: what is refused harms nothing."""

import os
import re
import secrets
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
import requests

from flink_control import live_job
from flink_control.jar import WrongJarError, with_settings
from flink_control.keeper import Keeper
from flink_control.rest import FlinkError, FlinkRest
from flink_control.snapshots import Snapshots
from login_api.topics import admin_of
from login_blocking.kafka_access import KafkaAccess
from tests.support.attackers import block_somebody
from tests.support.services import free_port
from tests.support.waiting import eventually
from tools.stack import job, topics
from tools.stack.layout import ROOT, Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

WRONG_POLICY = (
    "rules:\n  - {name: spray, subject: ip, count: distinct_ips, threshold: 3,"
    " within: 1m, block: [1h]}\nforget_level_after: 1d\n"
)


@pytest.fixture
def flink(stack: Stack) -> Iterator[FlinkRest]:
    """On which exactly one job runs, before and after."""
    client = FlinkRest(stack.flink_url)
    eventually(lambda: job.health(stack)[0])
    yield client
    assert len(client.alive(job.JOB_NAME)) == 1
    eventually(lambda: job.health(stack)[0])


@pytest.fixture
def stopped(stack: Stack, flink: FlinkRest) -> Iterator[str]:
    """No job runs; where the last one left off. Afterwards one does, whatever happened."""
    savepoint = job.stop(stack)
    assert savepoint is not None
    yield savepoint
    job.ensure(stack)


@pytest.fixture
def read_before(stack: Stack, flink: FlinkRest) -> None:
    """Kafka knows how far the job has read."""
    guess = {"user": f"guessed-{secrets.token_hex(4)}", "pass": "wrong"}
    requests.post(f"{stack.login_url}/login", json=guess, timeout=10)
    with admin_of(KafkaAccess(stack.kafka_bootstrap)) as admin:
        eventually(lambda: admin.list_group_offsets({job.JOB_NAME: None})[job.JOB_NAME])


@pytest.fixture
def events_topic(stack: Stack) -> Iterator[str]:
    name = f"other-{secrets.token_hex(4)}-events"
    topics.create_topics(stack.kafka_bootstrap, {name: {}}, partitions=1)
    yield name
    topics.delete_topics(stack.kafka_bootstrap, [name])


def other_job(events_topic: str, **settings: object) -> dict[str, Any]:
    """Settings of a job beside the live one, which reads the same and writes elsewhere."""
    return {
        "job_name": f"other-{secrets.token_hex(4)}",
        "events_topic": events_topic,
        "rejected_topic": None,
        "commands_topic": None,
        "redis_url": None,
        **settings,
    }


def jar(folder: Path, settings: dict[str, Any]) -> Path:
    return with_settings(job.JAR, folder / "block-detector.jar", settings)


def test_live_job_is_submitted_once(stack: Stack, flink: FlinkRest) -> None:
    running = flink.alive(job.JOB_NAME)

    again = live_job.submit(flink, job.JAR)

    assert (again.job_id, again.fresh) == (running[0], False)
    assert flink.alive(job.JOB_NAME) == running


def test_plan_is_shown_without_a_submission(stack: Stack, flink: FlinkRest) -> None:
    running, uploaded = flink.alive(job.JOB_NAME), flink.upload(job.JAR)

    answer = requests.post(f"{stack.flink_url}/jars/{uploaded}/plan", json={}, timeout=90)

    assert answer.json()["plan"]["name"] == job.JOB_NAME
    assert flink.alive(job.JOB_NAME) == running
    flink.delete_jar(uploaded)


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        pytest.param(["status"], 0, "running", id="done"),
        pytest.param(["submit", "--jar", str(job.JAR)], 0, "already runs", id="done before"),
        pytest.param(["submit", "--jar", "/none.jar"], 1, "there is no jar", id="refused"),
        pytest.param(["submit", "--policy", "/none.yaml"], 1, "/none.yaml", id="no such file"),
        pytest.param(["replace"], 2, "invalid choice", id="wrong usage"),
    ],
)
def test_command_line_tells_by_its_exit_status(
    stack: Stack, flink: FlinkRest, arguments: list[str], status: int, told: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "flink_control", *arguments],
        env={**os.environ, "FLINK_URL": stack.flink_url},
        cwd=ROOT, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip

    assert ended.returncode == status
    assert told in (ended.stdout if status == 0 else ended.stderr)


def test_second_job_of_the_name_is_refused_with_the_remedy(flink: FlinkRest) -> None:
    running = flink.alive(job.JOB_NAME)

    with pytest.raises(FlinkError, match=r"already runs.*Stop it with a savepoint first"):
        flink.submit(job.JAR)

    assert flink.alive(job.JOB_NAME) == running


def test_of_submissions_at_the_same_moment_one_is_taken(flink: FlinkRest, stopped: str) -> None:
    uploaded = flink.upload(job.JAR)

    def run(_number: int) -> str:
        try:
            return flink.run_jar(uploaded, stopped)
        except FlinkError as error:
            return str(error)

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(run, range(3)))

    alive = flink.alive(job.JOB_NAME)
    assert [answer for answer in answers if "already runs" not in answer] == alive
    assert len(alive) == 1
    live_job.wait_until_running(flink, alive[0])


def test_jobs_submitted_at_the_same_moment_keep_their_own_settings(
    stack: Stack, flink: FlinkRest, stopped: str, events_topic: str, tmp_path: Path
) -> None:
    wanted = [other_job(events_topic) for _ in range(2)]
    jars = []
    for number, settings in enumerate(wanted):
        (tmp_path / str(number)).mkdir()
        jars.append(flink.upload(jar(tmp_path / str(number), settings)))
    try:
        with ThreadPoolExecutor(4) as threads:
            ids = list(threads.map(flink.run_jar, jars))

        names = {known["jid"]: known["name"] for known in flink.jobs()}
        assert [names[job_id] for job_id in ids] == [settings["job_name"] for settings in wanted]
    finally:
        for settings in wanted:
            for job_id in flink.alive(settings["job_name"]):
                flink.cancel(job_id)
        eventually(lambda: flink.slots() == (2, 2))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "there is no jar", id="no file"),
        pytest.param(b"no zip", "is no jar", id="no jar"),
        pytest.param("other", "another program's jar", id="another program"),
    ],
)
def test_wrong_jar_is_refused_before_it_is_uploaded(
    flink: FlinkRest, tmp_path: Path, content: bytes | str | None, message: str
) -> None:
    wrong = tmp_path / "wrong.jar"
    if isinstance(content, bytes):
        wrong.write_bytes(content)
    elif content is not None:
        wrong = next((ROOT / ".local" / "jars" / "flink").glob("*.jar"))
    before = flink.jars()

    for command in (live_job.submit, live_job.upgrade):
        with pytest.raises(WrongJarError, match=message):
            command(flink, wrong)

    assert flink.jars() == before


def test_flink_itself_refuses_a_wrong_jar_in_few_words(flink: FlinkRest, tmp_path: Path) -> None:
    no_jar, other = tmp_path / "no.jar", tmp_path / "other.jar"
    no_jar.write_bytes(b"no zip")
    with zipfile.ZipFile(other, "w") as content:
        content.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\nMain-Class: not.There\n")

    with pytest.raises(FlinkError, match="zip END header not found"):
        flink.submit(no_jar)
    with pytest.raises(FlinkError, match=r"not\.There"):
        flink.submit(other)


def test_wrong_policy_stops_nothing(flink: FlinkRest) -> None:
    running = flink.alive(job.JOB_NAME)

    with pytest.raises(FlinkError, match=r"distinct_users\nNothing was changed") as refused:
        live_job.upgrade(flink, job.JAR, policy_text=WRONG_POLICY)

    assert running[0] in str(refused.value)
    assert flink.alive(job.JOB_NAME) == running


def test_wrong_policy_is_refused_and_a_right_one_is_taken(flink: FlinkRest, stopped: str) -> None:
    with pytest.raises(FlinkError, match="distinct_users"):
        live_job.submit(flink, job.JAR, policy_text=WRONG_POLICY)
    assert flink.alive(job.JOB_NAME) == []

    taken = live_job.submit(flink, job.JAR)

    assert taken.snapshot is not None
    assert taken.snapshot.removeprefix("file:") == stopped.removeprefix("file:")


def test_wrong_savepoint_path_is_refused(flink: FlinkRest, stopped: str) -> None:
    with pytest.raises(FlinkError, match=r"Cannot find .* '/nowhere/savepoint-1'"):
        live_job.submit(flink, job.JAR, snapshot="/nowhere/savepoint-1")

    assert flink.alive(job.JOB_NAME) == []


def test_job_that_would_begin_without_its_state_is_refused_unless_that_is_wanted(
    stack: Stack, flink: FlinkRest, read_before: None, stopped: str, tmp_path: Path
) -> None:
    with pytest.raises(FlinkError, match=rf"without the state it left.*newest is {stopped}\."):
        flink.submit(job.JAR)
    assert flink.alive(job.JOB_NAME) == []
    anew = {"policy_text": stack.policy_file.read_text(), "fresh_start": True}
    by_setting = flink.submit(jar(tmp_path, anew))
    live_job.wait_until_running(flink, by_setting)
    assert flink.restored_from(by_setting) is None
    flink.cancel(by_setting)
    eventually(lambda: flink.alive(job.JOB_NAME) == [])
    eventually(lambda: flink.slots() == (2, 2))

    by_command = job.submit(stack, stack.policy_file.read_text(), fresh=True)

    assert by_command.snapshot is None
    assert flink.restored_from(by_command.job_id) is None
    kept = job.snapshots(stack)
    assert kept.last_job() == by_command.job_id
    flink.cancel(by_command.job_id)
    eventually(lambda: flink.alive(job.JOB_NAME) == [])
    job.submit(stack, stack.policy_file.read_text(), snapshot=stopped)  # for whoever comes next


def test_of_two_who_submit_at_once_both_are_told_that_the_job_runs(
    stack: Stack, flink: FlinkRest, stopped: str
) -> None:
    with ThreadPoolExecutor(2) as threads:
        begun = [threads.submit(live_job.submit, flink, job.JAR) for _ in range(2)]
        submitted = [each.result() for each in begun]

    (alive,) = flink.alive(job.JOB_NAME)
    assert {each.job_id for each in submitted} == {alive}
    assert sorted(each.fresh for each in submitted) == [False, True]
    assert flink.parameters(alive)[live_job.BEGINS_FROM] == stopped
    live_job.wait_until_running(flink, alive)


def test_no_free_slot_is_said_at_once(flink: FlinkRest, events_topic: str, tmp_path: Path) -> None:
    eventually(lambda: flink.slots() == (1, 2))
    first = flink.submit(jar(tmp_path, other_job(events_topic)))
    try:
        eventually(lambda: flink.slots() == (0, 2))
        wanted = other_job(events_topic)

        with pytest.raises(FlinkError, match=r"no free slot: the job needs 1, and of .* 2 slots 0"):
            flink.submit(jar(tmp_path, wanted))

        assert flink.alive(wanted["job_name"]) == []
    finally:
        flink.cancel(first)
        eventually(lambda: flink.slots() == (1, 2))


def test_job_that_gets_no_slot_is_not_left_behind(
    flink: FlinkRest, events_topic: str, tmp_path: Path
) -> None:
    """As if the slot had gone between the look and the submission."""
    first = flink.submit(jar(tmp_path, other_job(events_topic)))
    try:
        eventually(lambda: flink.slots() == (0, 2))
        waiting = flink.submit(jar(tmp_path, other_job(events_topic, preflight=False)))

        with pytest.raises(live_job.NotStartedError, match="no slot became free"):
            live_job.wait_until_running(flink, waiting)

        eventually(lambda: flink.job(waiting)["state"] == "CANCELED")
    finally:
        flink.cancel(first)
        eventually(lambda: flink.slots() == (1, 2))


def test_kafka_that_is_not_there_is_named(
    flink: FlinkRest, events_topic: str, tmp_path: Path
) -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    wanted = other_job(events_topic, kafka_bootstrap=nowhere)

    with pytest.raises(FlinkError, match=rf"Kafka does not answer at {nowhere} .*KAFKA_BOOTSTRAP"):
        flink.submit(jar(tmp_path, wanted))

    assert flink.alive(wanted["job_name"]) == []


def test_topic_that_is_missing_is_named(
    flink: FlinkRest, events_topic: str, tmp_path: Path
) -> None:
    wanted = other_job(events_topic, attempts_topic="misspelt", commands_topic="gone")

    with pytest.raises(FlinkError, match="shows no topic misspelt, gone: create"):
        flink.submit(jar(tmp_path, wanted))

    assert flink.alive(wanted["job_name"]) == []


def test_version_that_cannot_start_gives_way_to_the_old_one_with_its_policy_and_blocks(
    stack: Stack, flink: FlinkRest, tmp_path: Path
) -> None:
    broken = tmp_path / "block-detector.jar"
    with zipfile.ZipFile(job.JAR) as good, zipfile.ZipFile(broken, "w") as copy:
        for entry in good.infolist():
            content = good.read(entry)
            if entry.filename == "job/flink_jobs/lifecycle.py":
                source = content.decode()
                opened = re.search(r"    def open\(.*?\) -> None:[^\n]*\n", source)
                assert opened is not None
                fault = '        raise RuntimeError("out of order")\n'
                content = (source[: opened.end()] + fault + source[opened.end() :]).encode()
            copy.writestr(entry, content)
    before = flink.parameters(flink.alive(job.JOB_NAME)[0])[live_job.POLICY_PARAMETER]
    other_policy = before.replace("threshold: 20", "threshold: 25")
    assert other_policy != before
    with redis.Redis.from_url(stack.redis_url("admin"), decode_responses=True) as held:
        user = block_somebody(stack, held)
        kept = held.hgetall(f"block:user:{user}")

        with pytest.raises(live_job.RolledBackError, match=r"out of order[\s\S]*The old one runs"):
            live_job.upgrade(flink, broken, policy_text=other_policy)

        (again,) = flink.alive(job.JOB_NAME)
        assert flink.parameters(again)[live_job.POLICY_PARAMETER] == before
        assert held.hgetall(f"block:user:{user}") == kept
        unblock = {"subject_type": "user", "subject": user, "by": "eve", "reason": "called us"}
        token = {"Authorization": f"Bearer {stack.secrets.admin_token}"}
        requests.post(f"{stack.login_url}/admin/unblock", json=unblock, headers=token, timeout=10)
        eventually(lambda: held.zscore("blocked:users", user) is None)


def test_savepoint_leaves_the_job_running(flink: FlinkRest) -> None:
    running = flink.alive(job.JOB_NAME)

    path = live_job.savepoint(flink)

    assert (Path(path.removeprefix("file:").replace("//", "/")) / "_metadata").is_file()
    assert flink.alive(job.JOB_NAME) == running


def test_keeper_starts_a_job_that_is_gone_and_leaves_a_stopped_one(
    stack: Stack, flink: FlinkRest, tmp_path: Path
) -> None:
    kept = Snapshots(stack.checkpoints, tmp_path / "last-job.json")
    keeper = Keeper(flink, job.JAR, kept)
    keeper.look()
    running = flink.alive(job.JOB_NAME)
    assert kept.last_job() == running[0]

    job.stop(stack)
    keeper.look()
    assert flink.alive(job.JOB_NAME) == []
    # A JobManager that has restarted remembers none; for this keeper it is as if it had.
    kept.remember_failure(running[0])
    keeper.look()

    (again,) = flink.alive(job.JOB_NAME)
    assert again not in running
    assert kept.last_job() == again
    keeper.look()
    assert flink.alive(job.JOB_NAME) == [again]
