"""How complete the list is, said by the dashboard while it changes."""

import pytest
from playwright.sync_api import Browser, expect

from login_blocking.names import BLOCK_STATE
from login_blocking.subjects import Subject
from tests.support.browser import tab
from tests.support.detector import Detector, now_ms
from tests.support.services import RedisServer

pytestmark = [pytest.mark.service, pytest.mark.browser]


def test_a_list_that_may_lack_blocks_says_so_and_why(
    browser: Browser, dashboard: str, detector: Detector, redis_server: RedisServer
) -> None:
    detector.block(Subject("user", "alice"))
    with tab(browser, dashboard) as page, redis_server.admin() as admin:
        page.goto(dashboard)
        state = page.get_by_role("status")
        expect(state).to_contain_text("Complete.")
        complete_at = admin.hget(BLOCK_STATE, "complete_at")
        admin.hset(BLOCK_STATE, "complete_at", now_ms() + 60_000)
        expect(state).to_contain_text("Refilling.")
        expect(state).to_contain_text("blocks may be missing")
        admin.hset(BLOCK_STATE, "complete_at", str(complete_at))
        expect(state).to_contain_text("Complete.")
        detector.reports = False  # it may beat once more, and be fresh for 10 s from then on
        admin.hset(BLOCK_STATE, "heartbeat", now_ms() - 20_000)
        expect(state).to_contain_text("Stale.", timeout=25_000)
        expect(page.locator(".figures .warn", has_text="Detector reported")).to_contain_text("late")
        expect(page.locator(".cards .who")).to_have_text(["alice"])
