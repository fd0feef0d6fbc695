"""The job submitted, upgraded and refused by clicks in Flink's own web UI, on a session cluster.

SCREENSHOTS=1 makes the pictures of docs/flink-ui anew.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import requests
from playwright.sync_api import Browser, Locator, Page, expect

from flink_control.rest import FlinkRest
from tests.support.attackers import block_somebody
from tests.support.waiting import eventually
from tools import demo
from tools.stack import job
from tools.stack.layout import ROOT, Stack

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.timeout(400)]

PICTURES = ROOT / "docs" / "flink-ui"
_SUBMITTED_WITHIN_MS = 90_000


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(
        viewport={"width": 1280, "height": 720}, locale="en-GB", timezone_id="UTC"
    )
    context.set_default_timeout(20_000)
    yield context.new_page()
    context.close()


@pytest.fixture
def flink(stack: Stack) -> FlinkRest:
    return FlinkRest(stack.flink_url)


@pytest.fixture
def savepoint(stack: Stack, flink: FlinkRest) -> Iterator[str]:
    """No job runs; where the last one left off. Afterwards one does, whatever happened."""
    _forget_jars(flink)
    stopped = job.stop(stack)
    assert stopped is not None
    yield stopped
    job.ensure(stack)
    _forget_jars(flink)


@pytest.fixture
def held(stack: Stack) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(stack.redis_url("admin"), decode_responses=True) as connection:
        yield connection


def _forget_jars(flink: FlinkRest) -> None:
    for jar in flink.jars():
        flink.delete_jar(jar["id"])


def picture(page: Page, name: str, settled_ms: int = 700) -> None:
    if os.environ.get("SCREENSHOTS") == "1":
        PICTURES.mkdir(exist_ok=True)
        page.wait_for_timeout(settled_ms)
        page.screenshot(path=PICTURES / f"{name}.png")


def open_jar(page: Page, stack: Stack, jar: Path | None) -> Locator:
    """Submit New Job → Add New, unless it is listed already → its row; the form below it."""
    page.goto(stack.flink_url)
    page.get_by_text("Submit New Job").click()
    if jar is not None:
        page.locator("input[type=file]").set_input_files(jar)
    page.get_by_role("cell", name="block-detector.jar").click()
    form = page.locator("form")
    expect(form.get_by_placeholder("Savepoint Path")).to_be_visible()
    return form


def submit(page: Page, form: Locator) -> None:
    form.get_by_role("button", name="Submit").click()
    expect(page).to_have_url(re.compile("/job/"), timeout=_SUBMITTED_WITHIN_MS)


def refusal(page: Page, form: Locator) -> Locator:
    """What the web UI shows when it is told no."""
    form.get_by_role("button", name="Submit").click()
    shown = page.locator(".ant-notification-notice")
    expect(shown).to_be_visible(timeout=_SUBMITTED_WITHIN_MS)
    return shown


def test_uploaded_jar_is_submitted_by_clicks_and_blocks_an_attacker(
    page: Page, stack: Stack, savepoint: str, flink: FlinkRest
) -> None:
    form = open_jar(page, stack, job.JAR)
    picture(page, "submit")
    form.get_by_placeholder("Savepoint Path").fill(savepoint)

    submit(page, form)

    expect(page.locator("flink-job-status")).to_contain_text("RUNNING", timeout=60_000)
    expect(page.locator("flink-job-status")).to_contain_text("block-detector")
    eventually(lambda: job.health(stack)[0])
    demo.show(stack.login_url, stack.blocked_url)
    picture(page, "running", settled_ms=40_000)  # the graph's colours are of the last half minute


def test_shipped_jar_is_listed_and_goes_on_from_a_savepoint_with_every_block(
    page: Page, stack: Stack, held: redis.Redis, flink: FlinkRest
) -> None:
    user = block_somebody(stack, held)
    before = held.hgetall(f"block:user:{user}")
    stopped = job.stop(stack)
    assert stopped is not None
    _forget_jars(flink)
    # As the image's entrypoint does: the web UI lists what lies there, named ID_NAME.jar.
    listed = stack.data / "flink" / "uploads" / "flink-web-upload" / "image_block-detector.jar"
    try:
        shutil.copy(job.JAR, listed)
        form = open_jar(page, stack, None)
        form.get_by_placeholder("Savepoint Path").fill(stopped)
        picture(page, "savepoint")

        submit(page, form)

        expect(page.locator("flink-job-status")).to_contain_text("RUNNING", timeout=60_000)
        eventually(lambda: job.health(stack)[0])
        assert held.hgetall(f"block:user:{user}") == before
        # Only a job that knows of a block can lift it.
        unblock = {"subject_type": "user", "subject": user, "by": "eve", "reason": "called us"}
        token = {"Authorization": f"Bearer {stack.secrets.admin_token}"}
        requests.post(f"{stack.login_url}/admin/unblock", json=unblock, headers=token, timeout=10)
        eventually(lambda: held.zscore("blocked:users", user) is None)
    finally:
        job.ensure(stack)
        listed.unlink(missing_ok=True)


def test_second_job_is_refused_with_the_remedy(page: Page, stack: Stack, flink: FlinkRest) -> None:
    running = flink.alive(job.JOB_NAME)
    _forget_jars(flink)

    shown = refusal(page, open_jar(page, stack, job.JAR))

    expect(shown).to_contain_text(f"a job named block-detector already runs ({running[0]})")
    expect(shown).to_contain_text("Stop it with a savepoint first")
    assert flink.alive(job.JOB_NAME) == running
    _forget_jars(flink)


def test_wrong_policy_is_refused_in_our_own_words(
    page: Page, stack: Stack, savepoint: str, flink: FlinkRest
) -> None:
    right = stack.policy_file.read_text()
    try:
        stack.policy_file.write_text(right.replace("threshold: 5,", "treshold: 5,", 1))
        form = open_jar(page, stack, job.JAR)
        shown = refusal(page, form)
        expect(shown).to_contain_text("rules.0.treshold: unknown key; did you mean threshold?")
        # The page's own text is long: the picture shows the place that matters.
        page.get_by_text("did you mean threshold?").first.scroll_into_view_if_needed()
        picture(page, "refused")
        assert flink.alive(job.JOB_NAME) == []
    finally:
        stack.policy_file.write_text(right)

    form = open_jar(page, stack, None)
    form.get_by_placeholder("Savepoint Path").fill(savepoint)
    submit(page, form)

    eventually(lambda: job.health(stack)[0])


def test_empty_savepoint_path_is_refused_and_the_right_one_is_told(
    page: Page, stack: Stack, savepoint: str, flink: FlinkRest
) -> None:
    shown = refusal(page, open_jar(page, stack, job.JAR))

    expect(shown).to_contain_text("would begin without the state it left")
    expect(shown).to_contain_text(f"Savepoint Path (submit --from); its newest is {savepoint}.")
    assert flink.alive(job.JOB_NAME) == []


def test_jar_of_another_program_is_refused_and_the_cluster_lives(
    page: Page, stack: Stack, flink: FlinkRest, tmp_path: Path
) -> None:
    _forget_jars(flink)
    other = tmp_path / "block-detector.jar"
    shutil.copy(next((ROOT / ".local" / "jars" / "flink").glob("*.jar")), other)
    page.goto(f"{stack.flink_url}/#/submit")
    page.locator("input[type=file]").set_input_files(other)
    page.get_by_role("cell", name="block-detector.jar").click()

    shown = refusal(page, page.locator("form"))

    # The web UI shows the first of Flink's two lines; the second, which has the cause, is in REST's
    # answer only (test_submission.py). That the row has no entry class tells it before.
    expect(shown).to_contain_text("Internal server error.")
    expect(page.get_by_role("row", name="block-detector.jar").first).not_to_contain_text("Launcher")
    eventually(lambda: job.health(stack)[0])
    _forget_jars(flink)
