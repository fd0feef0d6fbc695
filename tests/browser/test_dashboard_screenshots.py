"""The pictures of docs/dashboard: SCREENSHOTS=1 makes them anew."""

import os
import random
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from login_blocking.subjects import Subject
from tests.browser.stub_login_api import StubLoginApi
from tests.support.browser import tab
from tests.support.detector import Detector, now_ms
from tests.support.services import REPOSITORY
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.service,
    pytest.mark.browser,
    pytest.mark.skipif(os.environ.get("SCREENSHOTS") != "1", reason="SCREENSHOTS=1 makes them"),
]

FOLDER = REPOSITORY / "docs" / "dashboard"
MINUTE_MS = 60_000
FIRST = ["anna", "bert", "carla", "dmitri", "evelyn", "fatima", "george", "hana", "ines", "jakub"]
LAST = ["smith", "okafor", "ivanov", "mueller", "rossi", "tanaka", "silva", "novak"]


def _attack(detector: Detector) -> None:
    """An hour of guesses, with a spraying in the middle; the same each time."""
    chance, now = random.Random(4), now_ms()
    for number in range(420):
        user = Subject("user", f"{chance.choice(FIRST)}.{chance.choice(LAST)}{number}")
        rule = chance.choice(("user-failures", "user-failures", "user-failures", "distributed"))
        since = now - chance.randrange(20_000, 59 * MINUTE_MS)
        for_ms = chance.choice((15 * MINUTE_MS, 60 * MINUTE_MS, 24 * 60 * MINUTE_MS))
        if since + for_ms > now + MINUTE_MS:
            level = chance.choice((1, 1, 2))
            detector.block(user, rule=rule, since=since, for_ms=for_ms, level=level)
    for number in range(160):
        middle = chance.gauss(24, 5) * MINUTE_MS
        address = Subject("ip", f"198.51.100.{number + 1}")
        reason = "10 users within 10m"
        since = now - int(abs(middle)) - 5_000
        detector.block(address, rule="spraying", since=since, reason=reason)
    ipv6 = Subject("ip", "2001:db8:7:1::/64")
    detector.block(ipv6, rule="ip-failures", since=now - 14_000, reason="20 failures within 10m")
    odd = Subject("user", "admin\u202egnp.exe")
    detector.block(odd, since=now - 9_000, for_ms=15 * MINUTE_MS)
    eve = Subject("ip", "203.0.113.9")
    detector.block(eve, rule="operator", since=now - 6_000, for_ms=None, reason="scanner")
    detector.block(Subject("user", "alice"), since=now - 50 * MINUTE_MS, for_ms=60 * MINUTE_MS)
    detector.unblock(Subject("user", "alice"))
    detector.block(Subject("user", "alice"), since=now_ms() + 1, level=2)
    detector.block(
        Subject("user", "alice"), rule="distributed", reason="5 addresses within 10m", level=1
    )


def test_screenshots(
    browser: Browser, dashboard_with_unblock: str, detector: Detector, login_api: StubLoginApi
) -> None:
    _attack(detector)
    FOLDER.mkdir(exist_ok=True)
    desktop, phone = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
    for name, scheme, size, path in (
        ("light", "light", desktop, "/"),
        ("dark", "dark", desktop, "/"),
        ("phone", "light", phone, "/"),
        ("subject", "light", {"width": 1200, "height": 640}, "/#/user/alice"),
    ):
        options: dict[str, Any] = {
            "color_scheme": scheme,
            "viewport": size,
            "locale": "en-GB",
            "timezone_id": "UTC",
        }
        with tab(browser, dashboard_with_unblock, **options) as page:
            page.goto(dashboard_with_unblock + path)
            expect(page.locator(".cards, .remaining")).to_be_visible()
            expect(page.get_by_role("status")).to_contain_text("Complete.")
            if path == "/":
                chart = "globalThis.Chart?.getChart(document.querySelector('canvas'))"
                eventually(partial(page.evaluate, f"{chart}?.data.labels.length === 60"), 10)
            page.screenshot(path=FOLDER / f"{name}.png")
