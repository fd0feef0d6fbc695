"""Loses everything on purpose: a stack of its own is filled, copied, deleted, restored, looked at.

Takes some minutes and free ports, and leaves nothing behind.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import redis
import requests
from kafka.errors import KafkaError

from login_blocking.names import BLOCK_EVENTS
from tools import backup
from tools.replay import read_events
from tools.stack import layout
from tools.stack.layout import ROOT, Stack

_PASSWORD: Final = "correct horse battery"  # noqa: S105 — of accounts that live for a minute
_SOON_S: Final = 30.0


class DrillError(Exception):
    """Something was not there again."""


def main() -> int:
    """Plays the drill: 0 if all came back."""
    argparse.ArgumentParser(prog="tools.restore_drill", description=__doc__).parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is below is ended, too
    with tempfile.TemporaryDirectory(prefix="drill-") as folder:
        first, second = Path(folder) / "first", Path(folder) / "second"
        try:
            _stack(first, "up", "--ports", "auto")
            stack = layout.load(first)
            fill(stack)
            events = len(read_events(stack, BLOCK_EVENTS))
            print("Copied while it runs:", flush=True)
            began = time.monotonic()
            backup.make(stack, Path(folder) / "copy")
            print(f"  {time.monotonic() - began:.1f} s", flush=True)
            _stack(first, "down")
            shutil.rmtree(first)
            print("All of it deleted. Restored:", flush=True)
            began = time.monotonic()
            backup.restore(Path(folder) / "copy", second, stack.ports)
            _stack(second, "up", "--ports", "auto")
            print(f"  {time.monotonic() - began:.1f} s until it is up", flush=True)
            look(layout.load(second), events)
        except (DrillError, backup.BackupError, KafkaError, requests.RequestException) as error:
            sys.stderr.write(f"{error}\n")
            return 1
        except KeyboardInterrupt:
            return 130
        finally:
            for state_dir in (first, second):
                if state_dir.exists():
                    _stack(state_dir, "down")
    return 0


def fill(stack: Stack) -> None:
    """Somebody known, somebody blocked by a rule from afar, and an address blocked by hand."""
    for user in ("alice", "bob"):
        _expect(_post(stack, "register", {"user": user, "pass": _PASSWORD}), 201)
    _expect(_login(stack, "alice", _PASSWORD), 200)  # this address is known for alice from now on
    for _ in range(5):
        _expect(_login(stack, "bob", "wrong"), 401)
    _expect(_by_hand(stack, "block", "ip", "198.51.100.7", {"for": "7d"}), 202)
    _soon(lambda: _blocked(stack, "users", "bob") and _blocked(stack, "ips", "198.51.100.7"))


def look(stack: Stack, events: int) -> None:
    """Raises DrillError for what has not come back."""
    _expect(_login(stack, "alice", _PASSWORD), 200)
    _found("alice's account: she logs in")
    places = _places(stack)
    _check(places == 1, f"{places} users have known places")
    _found("alice's known place")
    _check(_blocked(stack, "users", "bob"), "bob is not blocked")
    _expect(_login(stack, "bob", _PASSWORD), 403)
    _found("bob's block by a rule: the right password is refused")
    _check(_blocked(stack, "ips", "198.51.100.7"), "the address is not blocked")
    _found("the block by hand")
    kept = len(read_events(stack, BLOCK_EVENTS))
    _check(kept == events, f"{kept} block events of {events}")
    _found(f"the audit trail, {kept} events")
    _expect(_by_hand(stack, "unblock", "user", "bob", {}), 202)
    _soon(lambda: not _blocked(stack, "users", "bob"))
    _expect(_login(stack, "bob", _PASSWORD), 200)
    _found("the job knows the block: an unblock lifts it")
    for _ in range(5):
        _login(stack, "carol", "wrong")
    _soon(lambda: _blocked(stack, "users", "carol"))
    _found("and it judges: five new failures, a new block")


def _found(what: str) -> None:
    print(f"  ok  {what}", flush=True)


def _check(there: bool, otherwise: str) -> None:  # noqa: FBT001 — it is what the check is about
    if not there:
        raise DrillError(otherwise)


def _expect(answer: requests.Response, status: int) -> None:
    wrong = f"expected {status} of {answer.url}, got {answer.status_code}: {answer.text}"
    _check(answer.status_code == status, wrong)


def _soon(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SOON_S
    while not happened():
        _check(time.monotonic() < deadline, f"not within {_SOON_S:.0f} s")
        time.sleep(0.05)


def _post(stack: Stack, call: str, body: dict[str, str], token: str = "") -> requests.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return requests.post(f"{stack.login_url}/{call}", json=body, headers=headers, timeout=10)


def _login(stack: Stack, user: str, password: str) -> requests.Response:
    return _post(stack, "login", {"user": user, "pass": password})


def _by_hand(
    stack: Stack, action: str, subject_type: str, subject: str, more: dict[str, str]
) -> requests.Response:
    body = {"subject_type": subject_type, "subject": subject, "by": "drill", "reason": "drill"}
    return _post(stack, f"admin/{action}", body | more, stack.secrets.admin_token)


def _blocked(stack: Stack, what: str, subject: str) -> bool:
    answer = requests.get(f"{stack.blocked_url}/blocked/{what}/{subject}", timeout=10)
    return answer.ok


def _places(stack: Stack) -> int:
    with redis.Redis.from_url(stack.redis_url("admin")) as admin:
        return len(list(admin.scan_iter("known:*")))


def _stack(state_dir: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "tools.stack", "--state-dir", str(state_dir), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    _check(done.returncode == 0, done.stdout + done.stderr)


if __name__ == "__main__":
    sys.exit(main())
