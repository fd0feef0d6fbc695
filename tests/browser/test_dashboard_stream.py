"""The stream as the page reads it: any cut of the text, an end, a server that is away a while."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from login_blocking.subjects import Subject
from tests.support.browser import tab
from tests.support.detector import Detector
from tests.support.running_blocked_api import running_api
from tests.support.services import RedisServer, free_port

pytestmark = [pytest.mark.service, pytest.mark.browser]

_PARSED = """async ([base, text, size]) => {
  const { EventParser } = await import(`${base}/static/event-stream.js`);
  const events = [], retries = [];
  const parser = new EventParser(
    ({ type, data, id }) => events.push([type, data, id]), (ms) => retries.push(ms));
  for (let at = 0; at < text.length; at += size) parser.feed(text.slice(at, at + size));
  return [events, retries];
}"""


def _parsed(page: Page, origin: str, text: str, size: int) -> list[Any]:
    return list(page.evaluate(_PARSED, [origin, text, size]))


STREAMS = {
    "lines end in three ways": (
        "id: 1\r\ndata: a\r\n\r\nid: 2\revent: change\rdata: b\r\rid: 3\ndata: c\n\n",
        [["message", "a", "1"], ["change", "b", "2"], ["message", "c", "3"]],
        [],
    ),
    "data of several lines is one": ("data: a\ndata:b\ndata\n\n", [["message", "a\nb\n", ""]], []),
    "the id stays": (
        "id: 7\ndata: a\n\ndata: b\n\n",
        [["message", "a", "7"], ["message", "b", "7"]],
        [],
    ),
    "an event without data is none": ("event: change\n\ndata: a\n\n", [["message", "a", ""]], []),
    "an event without its end is none": ("data: a\n\ndata: b\n", [["message", "a", ""]], []),
    "comments and unknown fields are nothing": (
        ": alive\n\ncolour: red\ndata: a\n\n",
        [["message", "a", ""]],
        [],
    ),
    "retry is digits": ("retry: 1000\nretry: 1e9\nretry: -1\n\n", [], [1000]),
    "a byte order mark is left out": ("\ufeffdata: a\n\n", [["message", "a", ""]], []),
}


def test_events_are_read_however_the_text_is_cut(browser: Browser, dashboard: str) -> None:
    with tab(browser, dashboard) as page:
        page.goto(dashboard)
        for what, (text, events, retries) in STREAMS.items():
            for size in (1, 2, 3, 7, len(text)):
                assert _parsed(page, dashboard, text, size) == [events, retries], (what, size)


def test_a_server_that_is_away_a_while_is_followed_again(
    browser: Browser, tmp_path: Path, redis_server: RedisServer, detector: Detector
) -> None:
    url, settings = redis_server.url("blocked_api"), {"BLOCKED_API_PORT": str(free_port())}
    origin = f"http://127.0.0.1:{settings['BLOCKED_API_PORT']}"
    detector.block(Subject("user", "alice"))
    with tab(browser, origin, refusals=(503,)) as page:
        updates = page.locator(".figures div", has_text="Live updates").locator("dd")
        with running_api(tmp_path, url, settings) as api:
            api.wait_until_healthy()
            api.wait_for("/blocked", 200)
            page.goto(origin)
            expect(updates).to_have_text("on")
        expect(updates).to_have_text("reconnecting")
        expect(page.get_by_role("status")).to_contain_text("does not answer")
        expect(page.locator(".cards .who")).to_have_text(["alice"])
        detector.block(Subject("user", "bert"))
        with running_api(tmp_path, url, settings) as api:
            api.wait_until_healthy()
            expect(updates).to_have_text("on", timeout=30_000)
            expect(page.locator(".cards .who")).to_have_text(["bert", "alice"], timeout=30_000)
            expect(page.get_by_role("status")).to_contain_text("Complete.")
