"""What an operator sees and does on the dashboard."""

import re
import time
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
import requests
from playwright.sync_api import Browser, Locator, Page, Route, expect

from login_blocking.subjects import Subject, user_key
from tests.browser.stub_login_api import StubLoginApi
from tests.support.block_entries import block
from tests.support.browser import tab
from tests.support.detector import Detector, now_ms, running_detector
from tests.support.running_blocked_api import running_api
from tests.support.services import RedisServer, running_redis
from tests.support.waiting import eventually
from tools import list_servers

pytestmark = [pytest.mark.service, pytest.mark.browser]

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    '"><script>alert(2)</script>',
    "javascript:alert(3)",
    "{{7*7}}${7*7}",
    "a/b//c/",
    "..",
    ".",
    "q?x=1&y=#z",
    "%2e%2e%2f%00",
    "__proto__",
    "constructor",
    "שלום alice",
    "'; drop table blocks; --",
    "&lt;b&gt;",
]
UNSEEN = {"admin\u202egnp.exe": "adminU+202Egnp.exe", "zero\u200bwidth": "zeroU+200Bwidth"}


def user(name: str) -> Subject:
    return Subject("user", user_key(name))


def rows(page: Page) -> Locator:
    return page.locator(".cards tbody tr")


def names(page: Page) -> Locator:
    return page.locator(".cards .who")


def figure(page: Page, name: str) -> Locator:
    return page.locator(".figures div", has_text=name).locator("dd")


def test_the_list_shows_who_is_blocked_newest_first(
    browser: Browser, dashboard: str, detector: Detector
) -> None:
    now = now_ms()
    detector.block(user("alice"), since=now - 60_000)
    detector.block(
        Subject("ip", "198.51.100.7"),
        rule="ip-failures",
        since=now - 30_000,
        for_ms=None,
        level=2,
    )
    with tab(browser, dashboard) as page:
        page.goto(dashboard)
        expect(names(page)).to_have_text(["198.51.100.7", "alice"])
        expect(rows(page).first.locator("td")).to_have_text(
            ["address", "ip-failures", re.compile("2$"), re.compile(r"\d\d:\d\d:\d\d"), "for ever"]
        )
        expect(rows(page).last.locator(".left")).to_have_text(re.compile(r"^5[89]m \d\ds$"))
        expect(figure(page, "Users blocked")).to_have_text("1")
        expect(figure(page, "Addresses blocked")).to_have_text("1")
        expect(figure(page, "lag")).to_have_text("40 ms")
        expect(figure(page, "Redis")).to_have_text("ok")
        expect(page.get_by_role("status")).to_contain_text("Complete.")
        expect(page.locator(".events .subject")).to_have_text(["198.51.100.7", "alice"])
        expect(page.locator(".legend li")).to_have_text(
            [re.compile("ip-failures 1"), re.compile("user-failures 1")]
        )
        page.get_by_text("As a table").click()
        expect(page.get_by_role("group", name="Blocks begun by minute")).to_be_visible()


def test_the_chart_is_drawn_though_its_library_comes_late(
    browser: Browser, dashboard: str, detector: Detector
) -> None:
    detector.block(user("alice"))
    detector.block(user("bert"), rule="distributed")
    held: list[Route] = []
    with tab(browser, dashboard) as page:
        page.route("**/chart.umd.min.js", lambda route: held.append(route))  # noqa: PLW0108 — looked into
        with page.expect_request("**/chart.umd.min.js"):
            page.goto(dashboard)
        expect(rows(page)).to_have_count(2)
        expect(page.locator(".legend li")).to_have_count(2)
        held[0].continue_()
        chart = "globalThis.Chart?.getChart(document.querySelector('canvas'))"
        drawn = f"{chart}?.data.datasets.map(one => one.label)"
        eventually(lambda: page.evaluate(drawn) == ["distributed", "user-failures"], 20)


def test_nobody_blocked_is_said(browser: Browser, dashboard: str) -> None:
    with tab(browser, dashboard) as page:
        page.goto(dashboard)
        expect(page.get_by_text("Nobody is blocked.")).to_be_visible()
        expect(page.get_by_role("button", name="Next")).to_be_disabled()


def test_search_and_filters_narrow_the_list(
    browser: Browser, dashboard: str, detector: Detector
) -> None:
    since = now_ms() - 10_000
    detector.block(user("anna"), since=since + 3)
    detector.block(user("hanna"), rule="distributed", since=since + 2)
    detector.block(user("bert"), since=since + 1, level=2)
    detector.block(Subject("ip", "198.51.100.7"), rule="spraying", since=since)
    with tab(browser, dashboard) as page:
        page.goto(dashboard)
        expect(rows(page)).to_have_count(4)
        search = page.get_by_label("Name or address")
        search.fill("ANNA")
        expect(names(page)).to_have_text(["anna", "hanna"])
        expect(page.locator("[aria-live]")).to_have_text("2 blocks shown.")
        page.get_by_label("Rule").select_option("distributed")
        expect(names(page)).to_have_text(["hanna"])
        search.fill("nowhere to be found")
        expect(page.get_by_text("No block matches.")).to_be_visible()
        page.get_by_role("button", name="Show all").click()
        expect(rows(page)).to_have_count(4)
        expect(search).to_have_value("")
        page.get_by_label("Type").select_option("ip")
        expect(names(page)).to_have_text(["198.51.100.7"])
        page.get_by_label("Type").select_option("")
        page.get_by_label("Level").fill("2")
        expect(names(page)).to_have_text(["bert"])
        # A new block that the filter leaves out stays out.
        detector.block(user("new"))
        expect(figure(page, "Users blocked")).to_have_text("4")
        expect(names(page)).to_have_text(["bert"])
        expect(page.locator("[aria-live]")).to_have_text("1 block shown.")


def test_pages_follow_each_other(browser: Browser, dashboard: str, detector: Detector) -> None:
    since = now_ms() - 500_000
    for number in range(120):
        detector.block(user(f"user{number:03}"), since=since + number)
    with tab(browser, dashboard) as page:
        page.goto(dashboard)
        pages = page.get_by_role("navigation", name="Pages of the list")
        following, previous = (pages.get_by_role("button", name=n) for n in ("Next", "Previous"))
        expect(names(page).first).to_have_text("user119")
        expect(pages).to_contain_text(re.compile("1.50 of 120"))
        expect(previous).to_be_disabled()
        following.click()
        expect(names(page).first).to_have_text("user069")
        expect(pages).to_contain_text(re.compile("51.100 of 120"))
        detector.block(user("newest"))  # moves nobody on this page
        expect(pages).to_contain_text(re.compile("51.100 of 121"))
        expect(names(page).first).to_have_text("user069")
        following.click()
        expect(rows(page)).to_have_count(20)
        expect(names(page).last).to_have_text("user000")
        expect(following).to_be_disabled()
        previous.click()
        expect(names(page).first).to_have_text("user069")
        previous.click()
        expect(names(page).first).to_have_text("newest")


def test_blocks_and_unblocks_show_within_two_seconds(
    browser: Browser, dashboard: str, detector: Detector
) -> None:
    detector.block(user("alice"))
    with tab(browser, dashboard) as page:
        page.goto(dashboard)
        expect(names(page)).to_have_text(["alice"])
        expect(figure(page, "Live updates")).to_have_text("on")
        for name in ("bert", "carla", "dora"):
            began = time.monotonic()
            detector.block(user(name))
            expect(names(page).first).to_have_text(name)
            expect(page.locator(".events .subject").first).to_have_text(name)
            assert time.monotonic() - began < 2
        began = time.monotonic()
        detector.unblock(user("alice"))
        expect(page.locator(".cards").get_by_text("alice")).to_have_count(0)
        assert time.monotonic() - began < 2
        expect(page.locator(".events li").first).to_contain_text("unblocked")


def test_time_left_runs_down_and_the_row_goes_when_it_ends(
    browser: Browser, dashboard: str, detector: Detector
) -> None:
    with tab(browser, dashboard) as page:
        page.goto(dashboard)
        expect(page.get_by_text("Nobody is blocked.")).to_be_visible()
        entry = detector.block(user("brief"), for_ms=6_000)
        left = page.locator(".cards .left")
        expect(left).to_have_text("4s")
        expect(left).to_have_text("3s")
        expect(left).to_have_text("2s")
        expect(rows(page)).to_have_count(0)
        assert entry.until is not None
        assert 0 <= now_ms() - entry.until < 1_500
        expect(page.get_by_text("Nobody is blocked.")).to_be_visible()
        expect(page.locator(".events li").first).to_contain_text("expired")


def test_a_row_goes_at_its_end_though_nothing_answers(
    browser: Browser, dashboard: str, detector: Detector
) -> None:
    entry = detector.block(user("brief"), for_ms=6_000)
    assert entry.until is not None
    with tab(browser, dashboard) as page:
        page.route("**/blocked/stream", lambda route: route.abort())
        page.goto(dashboard)
        expect(rows(page)).to_have_count(1)
        page.route("**/blocked/**", lambda route: route.abort())
        expect(rows(page)).to_have_count(0)
        assert 0 <= now_ms() - entry.until < 1_500


def test_hostile_names_are_only_text(browser: Browser, dashboard: str, detector: Detector) -> None:
    since = now_ms() - 100_000
    keys = [user_key(name) for name in HOSTILE]
    for number, key in enumerate([*keys, *UNSEEN]):
        detector.block(Subject("user", key), since=since - number, reason=f"{key} </td><script>")
    with tab(browser, dashboard) as page:
        page.goto(dashboard)
        expect(names(page)).to_have_text([*keys, *UNSEEN.values()])
        assert names(page).locator("bdi[dir=auto]").count() == len(keys) + len(UNSEEN)
        assert page.locator("main img, main script").count() == 0
        for number, (key, shown) in enumerate(
            {**dict(zip(keys, keys, strict=True)), **UNSEEN}.items()
        ):
            names(page).nth(number).get_by_role("link").click()
            expect(page.locator(".heading .name")).to_have_text(shown)
            expect(page.locator(".remaining")).to_contain_text("Blocked for")
            expect(page.locator("#history-title ~ * tbody tr")).to_have_count(1)
            assert page.url == f"{dashboard}/#/user/{_component(key)}"
            page.go_back()
            expect(rows(page)).to_have_count(len(keys) + len(UNSEEN))
        assert page.locator("main img, main script").count() == 0


def _component(text: str) -> str:
    """As encodeURIComponent."""
    return quote(text, safe="!'()*~-._")


def test_long_names_break_nothing_on_a_small_phone(
    browser: Browser, dashboard: str, detector: Detector
) -> None:
    longest = "w" * 1_000
    for name in (longest, "long words " * 50, "alice"):
        detector.block(user(name), rule="a-rule-with-a-rather-long-name", for_ms=None)
    with tab(browser, dashboard, viewport={"width": 320, "height": 640}) as page:
        page.goto(dashboard)
        expect(rows(page)).to_have_count(3)
        assert _overflow_px(page) <= 0
        assert all(
            box["height"] < 120 for box in map(Locator.bounding_box, rows(page).all()) if box
        )
        page.locator(".cards").get_by_role("link", name=re.compile("^ww")).click()
        expect(page.locator(".heading .name")).to_have_text(longest)
        assert _overflow_px(page) <= 0


def _overflow_px(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))


def _fill(redis_server: RedisServer, count: int) -> None:
    """Blocks as many users for a day, 25 ms after each other, by the detector's own script."""
    since = now_ms() - 3_000_000
    with redis.Redis.from_url(redis_server.url("detector")) as writer:
        for start in range(0, count, 1_000):
            begun = {number: since + 25 * number for number in range(start, start + 1_000)}
            changes = [
                (user(f"user{number:06}"), block(moment, moment + 24 * 3_600_000))
                for number, moment in begun.items()
            ]
            list_servers.apply(writer, changes)


@pytest.mark.timeout(300)
def test_100_000_blocks_are_as_usable_as_ten(
    browser: Browser, dashboard: str, detector: Detector, redis_server: RedisServer
) -> None:
    _fill(redis_server, 100_000)
    last = f"{dashboard}/blocked/users/user099999"
    eventually(lambda: requests.get(last, timeout=10).status_code == 200)
    with tab(browser, dashboard) as page:
        began = time.monotonic()
        page.goto(dashboard)
        expect(names(page).first).to_have_text("user099999")
        assert time.monotonic() - began < 5
        expect(figure(page, "Users blocked")).to_have_text("100,000")
        for question, answer in (("user0000", 50), ("user012345", 1)):
            began = time.monotonic()
            page.get_by_label("Name or address").fill(question)
            expect(rows(page)).to_have_count(answer)
            assert time.monotonic() - began < 3
        page.get_by_label("Name or address").fill("")
        expect(names(page).first).to_have_text("user099999")
        began = time.monotonic()
        page.get_by_role("button", name="Next").click()
        expect(names(page).first).to_have_text("user099949")
        assert time.monotonic() - began < 3
        page.get_by_role("button", name="Previous").click()
        expect(names(page).first).to_have_text("user099999")
        began = time.monotonic()
        detector.block(user("newest"))
        expect(names(page).first).to_have_text("newest")
        assert time.monotonic() - began < 3


def test_unblock_asks_the_login_api_with_the_operators_token(
    browser: Browser, dashboard_with_unblock: str, detector: Detector, login_api: StubLoginApi
) -> None:
    alice = user("alice")
    detector.block(alice)
    origin = dashboard_with_unblock
    with tab(browser, origin, also=(login_api.origin,), refusals=(404,)) as page:
        page.goto(f"{origin}/#/user/alice")
        page.get_by_role("button", name="Unblock…").click()
        dialog = page.get_by_role("dialog")
        _fill_unblock(dialog, "operators-token")
        remaining = page.locator(".remaining")
        expect(remaining).not_to_have_text(remaining.inner_text())  # a second on, it is drawn again
        dialog.get_by_role("button", name="Unblock").click()
        expect(dialog.get_by_role("status")).to_contain_text("Accepted.")
        asked = {"subject_type": "user", "subject": "alice", "by": "eve", "reason": "called us"}
        assert login_api.received == [("Bearer operators-token", asked)]
        detector.unblock(alice)
        expect(dialog.get_by_role("status")).to_contain_text("blocked no longer")
        dialog.get_by_role("button", name="Close").click()
        expect(page.get_by_text("Not blocked now.")).to_be_visible()
        expect(page.get_by_role("button", name="Unblock…")).to_have_count(0)
        assert (
            page.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}])") == "[{},{}]"
        )


def _fill_unblock(dialog: Locator, token: str) -> None:
    dialog.get_by_label("Operator token").fill(token)
    dialog.get_by_label("Who are you?").fill("eve")
    dialog.get_by_label("Why?").fill("called us")


@pytest.mark.usefixtures("dashboard_with_unblock")
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((401, "Wrong token"), "The token is wrong."),
        ((403, "Operators' calls are off"), "LOGIN_API_ADMIN_TOKEN"),
        ((400, "reason: <b>bad</b>"), "Refused: reason: <b>bad</b>"),
    ],
)
def test_a_refused_unblock_says_why(
    browser: Browser,
    detector: Detector,
    login_api: StubLoginApi,
    answer: tuple[int, str],
    words: str,
) -> None:
    detector.block(user("alice"))
    status, error = answer
    login_api.status, login_api.document = status, {"error": error}
    origin = login_api.allowed_origin
    with tab(browser, origin, also=(login_api.origin,), refusals=(status,)) as page:
        page.goto(f"{origin}/#/user/alice")
        page.get_by_role("button", name="Unblock…").click()
        dialog = page.get_by_role("dialog")
        _fill_unblock(dialog, "t")
        dialog.get_by_role("button", name="Unblock").click()
        expect(dialog.get_by_role("status")).to_contain_text(words)
        expect(dialog.get_by_role("button", name="Unblock")).to_be_enabled()


def test_an_unblock_without_an_answer_says_so(
    browser: Browser, dashboard_with_unblock: str, detector: Detector, login_api: StubLoginApi
) -> None:
    detector.block(user("alice"))
    origin = dashboard_with_unblock
    with tab(browser, origin, also=(login_api.origin,)) as page:
        page.goto(f"{origin}/#/user/alice")
        page.get_by_role("button", name="Unblock…").click()
        page.route(f"{login_api.origin}/**", lambda route: route.abort())
        dialog = page.get_by_role("dialog")
        _fill_unblock(dialog, "t")
        dialog.get_by_role("button", name="Unblock").click()
        expect(dialog.get_by_role("status")).to_contain_text(f"No answer from {login_api.origin}")


def test_without_a_login_api_nothing_offers_to_unblock(
    browser: Browser, dashboard: str, detector: Detector
) -> None:
    detector.block(user("alice"))
    with tab(browser, dashboard) as page:
        page.goto(f"{dashboard}/#/user/alice")
        expect(page.locator(".remaining")).to_be_visible()
        expect(figure(page, "Users blocked")).to_have_text("1")
        assert page.get_by_role("button", name="Unblock…").count() == 0


def test_a_token_is_asked_for_once_a_tab(
    browser: Browser, tmp_path: Path, redis_server: RedisServer, detector: Detector
) -> None:
    detector.block(user("alice"))
    settings = {"BLOCKED_API_TOKEN": "open-sesame-and-hurry"}
    with running_api(tmp_path, redis_server.url("blocked_api"), settings) as api:
        api.wait_until_healthy()
        origin = f"http://127.0.0.1:{api.port}"
        with tab(browser, origin, refusals=(401,)) as page:
            page.goto(origin)
            dialog = page.get_by_role("dialog")
            expect(dialog).to_be_visible()
            assert rows(page).count() == 0
            dialog.get_by_label("Token").fill("wrong-wrong-wrong-wrong")
            page.keyboard.press("Enter")
            expect(dialog.get_by_role("alert")).to_have_text("That token was refused.")
            page.keyboard.press("Escape")
            expect(dialog).to_be_visible()
            dialog.get_by_label("Token").fill("open-sesame-and-hurry")
            page.keyboard.press("Enter")
            expect(names(page)).to_have_text(["alice"])
            expect(figure(page, "Live updates")).to_have_text("on")
            detector.block(user("bert"))
            expect(names(page).first).to_have_text("bert")
            page.reload()
            expect(rows(page)).to_have_count(2)
            assert page.get_by_role("dialog").count() == 0
            assert "sesame" not in page.url


def test_everything_is_reached_by_keyboard(
    browser: Browser, dashboard_with_unblock: str, detector: Detector, login_api: StubLoginApi
) -> None:
    detector.block(user("alice"))
    origin = dashboard_with_unblock
    with tab(browser, origin, also=(login_api.origin,)) as page:
        page.goto(origin)
        expect(rows(page)).to_have_count(1)
        page.keyboard.press("Tab")
        skip = page.get_by_role("link", name="Skip to the content")
        expect(skip).to_be_focused()
        expect(skip).to_be_in_viewport()
        page.keyboard.press("Enter")
        expect(page.get_by_role("main")).to_be_focused()
        alice = page.locator(".cards").get_by_role("link", name="alice")
        reached = []
        while not alice.evaluate("link => link === document.activeElement"):
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.labels?.[0]?.firstChild.data"))
            assert len(reached) < 15
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        labels = [text.split()[0] for text in reached if text]
        assert labels == ["Name", "Type", "Rule", "Level"]
        page.keyboard.press("Enter")
        unblock = page.get_by_role("button", name="Unblock…")
        expect(unblock).to_be_visible()
        expect(page.get_by_role("main")).to_be_focused()
        unblock.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_label("Operator token")).to_be_focused()
        for _ in range(12):
            page.keyboard.press("Tab")
            # Between the last and the first the browser's own bar has the focus.
            held = page.evaluate("document.activeElement.closest('dialog')?.open ?? 'outside'")
            outside = page.evaluate("document.activeElement === document.body")
            assert held is True or outside
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(unblock).to_be_focused()


def test_redis_that_goes_and_comes_back_is_told_and_followed(
    browser: Browser, tmp_path: Path
) -> None:
    folder = tmp_path / "redis"
    folder.mkdir()
    with (
        running_redis(folder) as server,
        running_detector(server) as detector,
        running_api(tmp_path, server.url("blocked_api")) as api,
    ):
        detector.block(user("alice"))
        api.wait_until_healthy()
        api.wait_for("/blocked", 200)
        origin = f"http://127.0.0.1:{api.port}"
        with tab(browser, origin, refusals=(503,)) as page:
            page.goto(origin)
            expect(names(page)).to_have_text(["alice"])
            server.process.pause()
            state = page.get_by_role("status")
            expect(state).to_contain_text(re.compile("Redis is down|Not readable"))
            expect(page.get_by_text("The block list cannot be read now.")).to_be_visible()
            expect(page.get_by_text("Nobody is blocked.")).to_have_count(0)
            server.process.resume()
            expect(state).to_contain_text("Complete.", timeout=30_000)
            expect(page.get_by_text("The block list cannot be read now.")).to_have_count(
                0, timeout=40_000
            )
            detector.block(user("bert"))
            expect(names(page).first).to_have_text("bert")


_LOWEST_CONTRAST = """() => {
  const rgb = (text) => (text.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
  const light = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((part) => part / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgb(getComputedStyle(at).backgroundColor);
      if ((colour[3] ?? 1) === 1) return colour;
    }
    return rgb(getComputedStyle(document.body).backgroundColor);
  };
  const found = [...document.querySelectorAll('#app *')].filter((element) => (
    element.checkVisibility() && !element.matches('.hidden, :disabled')
      && [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim())
  )).map((element) => {
    const pair = [light(rgb(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    return [ratio, `${element.className}: ${element.textContent.slice(0, 40)}`];
  });
  return found.sort(([a], [b]) => a - b)[0];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(
    browser: Browser, dashboard: str, detector: Detector, scheme: str
) -> None:
    detector.block(user("admin\u202ealice"))
    with tab(browser, dashboard, color_scheme=scheme) as page:
        page.goto(dashboard)
        expect(rows(page)).to_have_count(1)
        assert page.evaluate(_LOWEST_CONTRAST)[0] >= 4.5, page.evaluate(_LOWEST_CONTRAST)
        names(page).get_by_role("link").click()
        expect(page.locator(".remaining")).to_be_visible()
        assert page.evaluate(_LOWEST_CONTRAST)[0] >= 4.5, page.evaluate(_LOWEST_CONTRAST)
