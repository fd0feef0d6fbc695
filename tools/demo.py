"""Shows the whole way once: wrong passwords, and the block on the list milliseconds later.

There are as many of them as the policy in force asks for; five, by the default policy.
"""

import argparse
import os
import secrets
import sys
import time
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

import requests

from login_blocking.limits import limits
from login_blocking.policy import Policy
from login_blocking.policy_file import PolicyError, parse_policy
from login_blocking.subjects import Subject
from tools.stack import layout, live

_GUESSES = 5  # by the default policy
_DEADLINE_S = 10.0


def main() -> int:
    """Runs the command line: 0 if everything happened as it should, 1 if not."""
    parser = argparse.ArgumentParser(prog="tools.demo", description=__doc__)
    parser.add_argument("--state-dir", type=Path, default=layout.DEFAULT_STATE_DIR)
    state_dir = parser.parse_args().state_dir
    try:
        stack = live.load(state_dir)
        number = guesses(parse_policy(stack.policy_file.read_text(encoding="utf-8")))
        delay_ms = show(stack.login_url, stack.blocked_url, number)
    except requests.ConnectionError:
        status = layout.make("status", state_dir)
        sys.stderr.write(f"The stack does not answer. Look at it: {status}\n")
        return 1
    except (layout.NoStackError, requests.RequestException, DemoError, PolicyError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    print(f"Blocked {delay_ms:.0f} ms after the answer to wrong password {number}.")
    return 0


class DemoError(Exception):
    """Something did not happen as it should."""


def guesses(policy: Policy) -> int:
    """The wrong passwords after which a user without known places is blocked; else DemoError."""
    of_user = [
        it.threshold for it in limits(policy, Subject("user", "demo")) if it.places != "known"
    ]
    if not of_user:
        raise DemoError(
            "no rule of the policy in force blocks a user for failures from unknown places;"
            " the demo wants one, as policy default has it"
        )
    of_address = [it.threshold for it in limits(policy, Subject("ip", "127.0.0.1"))]
    if of_address and min(of_address) <= min(of_user):
        raise DemoError(
            "the policy in force blocks 127.0.0.1 before a user; the demo wants it exempt,"
            " as it is in policy default"
        )
    return min(of_user)


def show(login_url: str, blocked_url: str, number: int = _GUESSES) -> float:
    """Plays the scene and prints it; ms from the last guess's answer to the block on the list.

    Raises DemoError, and requests' errors.
    """
    with requests.Session() as session:
        # Whether we may read the list is known before anybody is attacked.
        _is_listed(session, blocked_url, "")
        attacked, other = (f"demo-{secrets.token_hex(4)}" for _ in range(2))
        password = secrets.token_urlsafe(16)

        def call(path: str, user: str, given: str) -> requests.Response:
            body = {"user": user, "pass": given}
            answer = session.post(f"{login_url}/{path}", json=body, timeout=5)
            print(f"POST /{path:8} {user}  {answer.status_code} {answer.text.strip()}")
            return answer

        _expect(call("register", attacked, password), 201)
        _expect(call("register", other, password), 201)
        for _ in range(number):
            _expect(call("login", attacked, "not the password"), 401)
        answered = time.perf_counter()
        while not _is_listed(session, blocked_url, attacked):
            if time.perf_counter() - answered > _DEADLINE_S:
                raise DemoError(f"no block within {_DEADLINE_S:.0f} s: look at status and logs")
        delay_ms = (time.perf_counter() - answered) * 1_000
        print(f"{datetime.now(UTC):%H:%M:%S.%f}  GET /blocked lists {attacked}")
        _expect(call("login", attacked, password), 403)
        _expect(call("login", other, password), 200)
    return delay_ms


def _is_listed(session: requests.Session, blocked_url: str, user: str) -> bool:
    token = os.environ.get("BLOCKED_API_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = session.get(f"{blocked_url}/blocked", headers=headers, timeout=5)
    if answer.status_code == HTTPStatus.UNAUTHORIZED:
        raise DemoError(
            "The Blocked API wants its token: set BLOCKED_API_TOKEN here"
            " to what it was when the stack started"
        )
    _expect(answer, 200)
    return user in answer.json()["users-blocked"]


def _expect(answer: requests.Response, status: int) -> None:
    if answer.status_code != status:
        raise DemoError(f"expected {status}, got {answer.status_code}: {answer.text}")


if __name__ == "__main__":
    sys.exit(main())
