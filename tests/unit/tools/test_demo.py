from collections import Counter
from pathlib import Path
from typing import Self

import pytest

from login_blocking.policy_file import parse_policy
from tools import demo
from tools.stack import live
from tools.stack.layout import Ports, Secrets, Stack

POLICIES = Path(__file__).parents[3] / "policies"
BEFORE_A_USER = """
rules:
  - {name: u, subject: user, count: failures, threshold: 5, within: 60s, block: [1h]}
  - {name: i, subject: ip, count: failures, threshold: 5, within: 60s, block: [1h]}
forget_level_after: 30d
"""
NO_USERS = BEFORE_A_USER.replace("subject: user", "subject: ip")


class Answer:
    def __init__(self, status_code: int, users: list[str] | None = None) -> None:
        self.status_code = status_code
        self.text = ""
        self._users = users or []

    def json(self) -> dict[str, list[str]]:
        return {"users-blocked": self._users}


class BothApis:
    """Stands in for requests' session: a user is blocked after so many wrong passwords."""

    def __init__(self, threshold: int, token: str | None = None) -> None:
        self._threshold, self._token = threshold, token
        self._passwords: dict[str, str] = {}
        self._failures: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def post(self, url: str, *, json: dict[str, str], timeout: float) -> Answer:
        if url.endswith("/register"):
            self._passwords[json["user"]] = json["pass"]
            return Answer(201)
        if self._failures[json["user"]] >= self._threshold:
            return Answer(403)
        wrong = self._passwords[json["user"]] != json["pass"]
        self._failures[json["user"]] += wrong
        return Answer(401 if wrong else 200)

    def get(self, _url: str, *, headers: dict[str, str], timeout: float) -> Answer:
        if self._token and headers.get("Authorization") != f"Bearer {self._token}":
            return Answer(401)
        return Answer(200, [u for u, n in self._failures.items() if n >= self._threshold])


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    made = Stack(tmp_path, Ports(), Secrets.generate())
    monkeypatch.setattr(live, "load", lambda _state_dir: made)
    monkeypatch.setattr("sys.argv", ["demo"])
    monkeypatch.delenv("BLOCKED_API_TOKEN", raising=False)
    return made


@pytest.mark.parametrize(("policy", "number"), [("default", 5), ("strict", 3), ("seed", 5)])
def test_as_many_guesses_as_the_policy_in_force_asks_for(
    policy: str,
    number: int,
    stack: Stack,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stack.policy_file.write_text((POLICIES / f"{policy}.yaml").read_text())
    monkeypatch.setattr("requests.Session", lambda: BothApis(number))
    assert demo.main() == 0
    written = capsys.readouterr().out
    assert written.count("  401 ") == number
    assert f"after the answer to wrong password {number}." in written


@pytest.mark.parametrize(
    ("policy", "wanted"), [(NO_USERS, "no rule"), (BEFORE_A_USER, "wants it exempt")]
)
def test_a_policy_with_which_there_is_no_scene_is_told(policy: str, wanted: str) -> None:
    with pytest.raises(demo.DemoError, match=wanted):
        demo.guesses(parse_policy(policy))


@pytest.mark.parametrize("given", [None, "another"])
def test_without_the_token_it_says_so_before_anybody_is_attacked(
    given: str | None,
    stack: Stack,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if given is not None:
        monkeypatch.setenv("BLOCKED_API_TOKEN", given)
    stack.policy_file.write_text((POLICIES / "default.yaml").read_text())
    monkeypatch.setattr("requests.Session", lambda: BothApis(5, token="the token"))
    assert demo.main() == 1
    written = capsys.readouterr()
    assert written.err.count("\n") == 1
    assert "set BLOCKED_API_TOKEN" in written.err
    assert written.out == ""


def test_with_the_token_it_is_played(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLOCKED_API_TOKEN", "the token")
    stack.policy_file.write_text((POLICIES / "default.yaml").read_text())
    monkeypatch.setattr("requests.Session", lambda: BothApis(5, token="the token"))
    assert demo.main() == 0
