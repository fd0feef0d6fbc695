"""Chromium for tests: pages that note whatever a page must not do."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Dialog,
    Error,
    Page,
    Request,
    Response,
    expect,
    sync_playwright,
)

CHROMIUM = Path("/usr/bin/chromium")
_ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
_WAITS_MS = 20_000
"""A busy machine draws late; where lateness itself is a fault, the test looks at the clock."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        why = f"no browser: {CHROMIUM} is not there"
        if os.environ.get("BROWSER_REQUIRED") == "1":
            pytest.fail(why)
        pytest.skip(why)
    expect.set_options(timeout=_WAITS_MS)  # a context's default does not reach it
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=_ARGUMENTS)
        yield chromium
        chromium.close()


@dataclass
class Tab:
    """A page, and the complaints about it: console, errors, dialogs, calls to strangers."""

    page: Page
    origins: set[str]
    complaints: list[str] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)
    """Statuses of 400 and more, which the console reports too."""

    def watch(self) -> None:
        self.page.on("console", self._console)
        self.page.on("pageerror", self._error)
        self.page.on("dialog", self._dialog)
        self.page.on("request", self._request)
        self.page.on("response", self._response)

    def _console(self, message: ConsoleMessage) -> None:
        told = message.type in ("error", "warning")
        if told and not message.text.startswith("Failed to load resource"):
            self.complaints.append(f"console: {message.text}")

    def _error(self, error: Error) -> None:
        self.complaints.append(f"error: {error}")

    def _dialog(self, dialog: Dialog) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _response(self, answer: Response) -> None:
        if answer.status >= 400:
            self.refusals.append(answer.status)

    def _request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme != "data" and f"{parts.scheme}://{parts.netloc}" not in self.origins:
            self.complaints.append(f"request: {request.url}")


@contextmanager
def tab(
    browser: Browser,
    origin: str,
    *,
    also: tuple[str, ...] = (),
    refusals: tuple[int, ...] = (),
    **options: Any,  # noqa: ANN401 — whatever Playwright's new_context takes
) -> Iterator[Page]:
    """A page in a session of its own; fails if the page did what no page may.

    `also` are further origins that it may call, `refusals` the statuses that it may meet.
    """
    context = browser.new_context(**options)
    context.set_default_timeout(_WAITS_MS)
    watched = Tab(context.new_page(), {origin, *also})
    watched.watch()
    try:
        yield watched.page
        assert watched.complaints == []
        assert set(watched.refusals) <= set(refusals)
    finally:
        context.close()
