"""An operator before the dashboard of a live stack: sees an attack, lifts a block."""

import secrets
from collections.abc import Iterator

import pytest
import requests
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import tab
from tools.stack.layout import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.browser, pytest.mark.timeout(300)]


@pytest.fixture
def blocked(stack: Stack) -> Iterator[str]:
    """A user at whose name somebody has guessed too often."""
    name = f"seen-{secrets.token_hex(4)}"
    guess = {"user": name, "pass": "guess"}
    with requests.Session() as session:
        for _ in range(5):
            answer = session.post(f"{stack.login_url}/login", json=guess, timeout=10)
            assert answer.status_code == 401
    yield name
    unblock = {"subject_type": "user", "subject": name, "by": "test", "reason": "over"}
    token = {"Authorization": f"Bearer {stack.secrets.admin_token}"}
    requests.post(f"{stack.login_url}/admin/unblock", json=unblock, headers=token, timeout=10)


def _ask_to_unblock(page: Page, token: str) -> None:
    page.get_by_role("button", name="Unblock…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Operator token").fill(token)
    dialog.get_by_label("Who are you?").fill("eve")
    dialog.get_by_label("Why?").fill("called us")
    dialog.get_by_role("button", name="Unblock").click()


def test_an_operator_sees_a_block_and_lifts_it(
    browser: Browser, stack: Stack, blocked: str
) -> None:
    origin = stack.blocked_url
    with tab(browser, origin, also=(stack.login_url,), refusals=(401, 404)) as page:
        page.goto(origin)
        page.get_by_role("link", name=blocked).first.click()
        expect(page.locator(".remaining")).to_contain_text("Blocked for")
        expect(page.get_by_text("5 failures within 1m")).to_be_visible()
        _ask_to_unblock(page, "a-wrong-token-of-many-characters")
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_role("status")).to_contain_text("The token is wrong.")
        dialog.get_by_label("Operator token").fill(stack.secrets.admin_token)
        dialog.get_by_role("button", name="Unblock").click()
        expect(dialog.get_by_role("status")).to_contain_text("blocked no longer")
    answer = requests.get(f"{origin}/blocked/users/{blocked}", timeout=5)
    assert answer.status_code == 404
    guess = {"user": blocked, "pass": "guess"}
    assert requests.post(f"{stack.login_url}/login", json=guess, timeout=10).status_code == 401
