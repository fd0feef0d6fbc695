"""What a refused login and an accepted one cost, against the same server that answers a constant.

All are Granian with Flask and as many workers; the client is the same, on the same cores, so that
the ratio of requests a second flatters the dearer one: the server's own CPU time a request is
printed beside it. The accepted ones are hashed with next to nothing: what a login costs beside its
hash.
"""

import argparse
import itertools
import json
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final

import psutil
import requests

from tools import http_load
from tools.stack import binaries, layout, live
from tools.stack.layout import NoStackError, Ports, Stack
from tools.stack.parts import parts

_WORKERS: Final = 2
_PASSWORD: Final = secrets.token_urlsafe(16)
_USERS: Final = 16
"""Who log in at once: each a connection or two, below what the guard lets stand."""
_NEXT_TO_NO_HASH: Final = {"LOGIN_API_ARGON2_MEMORY_KIB": "8", "LOGIN_API_ARGON2_TIME_COST": "1"}

CONSTANT: Final = """
from flask import Flask
app = Flask("constant")
@app.post("/login")
def login():
    return {"error": "User blocked", "blocked_until": None}, 403
@app.get("/readyz")
def ready():
    return {}
"""


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="tools.bench_refusal", description=__doc__)
    parser.add_argument("--seconds", type=int, default=15, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=2, help="of all three, in turn")
    parser.add_argument("--state-dir", type=Path, default=layout.DEFAULT_STATE_DIR)
    arguments = parser.parse_args()
    try:
        stack = live.load(arguments.state_dir)
        print("server             answers/s  p50 ms  p99 ms  CPU us/answer  answers", flush=True)
        for _ in range(arguments.rounds):
            with _constant() as (port, server):
                _measure("constant", port, server, arguments.seconds, [_body("u")])
            with _login_api(stack) as (port, server):
                body = _body(f"refused-{secrets.token_hex(6)}")
                statuses = [_post(port, "/login", body) for _ in range(6)]
                _measure("refused login", port, server, arguments.seconds, [body])
                if statuses[:5] != [401] * 5:
                    print(f"  not five guesses before: {statuses}")
            with _login_api(stack, **_NEXT_TO_NO_HASH) as (port, server):
                bodies = [_body(f"accepted-{secrets.token_hex(6)}") for _ in range(_USERS)]
                try:
                    registered = {_post(port, "/register", body) for body in bodies}
                    if registered != {HTTPStatus.CREATED}:
                        print(f"  not all registered: {sorted(registered)}")
                    _measure("accepted, no hash", port, server, arguments.seconds, bodies)
                finally:
                    for body in bodies:
                        _post(port, "/unregister", body)
    except (NoStackError, requests.RequestException) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _body(user: str) -> bytes:
    return json.dumps({"user": user, "pass": _PASSWORD}).encode()


def _post(port: int, path: str, body: bytes) -> int:
    headers = {"Content-Type": "application/json"}
    url = f"http://127.0.0.1:{port}{path}"
    return requests.post(url, data=body, headers=headers, timeout=30).status_code


def _measure(
    name: str, port: int, server: psutil.Process, seconds: int, bodies: Sequence[bytes]
) -> None:
    """Each connection repeats one of the bodies."""
    requests_in_turn = itertools.cycle(
        [http_load.request("POST", "/login", body=body) for body in bodies]
    )

    def connect() -> http_load.Ask:
        return http_load.http(port, next(requests_in_turn))()

    found = http_load.measure(connect, seconds, server)
    print(
        f"{name:18} {found.answers_a_second:9,.0f} {found.p50_ms:7.1f} {found.p99_ms:7.1f} "
        f"{found.cpu_us:14.0f}  {found.statuses}",
        flush=True,
    )


@contextmanager
def _login_api(stack: Stack, **others: str) -> Iterator[tuple[int, psutil.Process]]:
    part = next(it for it in parts(stack) if it.name == "login-api")
    environment = {**(part.environment or os.environ), "LOGIN_API_WORKERS": str(_WORKERS)}
    port = Ports.free().login_api
    settings = {**environment, **others, "LOGIN_API_PORT": str(port)}
    with http_load.running(part.command, settings, port) as server:
        yield port, server


@contextmanager
def _constant() -> Iterator[tuple[int, psutil.Process]]:
    port = Ports.free().login_api
    with tempfile.TemporaryDirectory(prefix="constant-") as folder:
        (Path(folder) / "constant.py").write_text(CONSTANT)
        command = [
            str(Path(binaries.python()).parent / "granian"), "--interface", "wsgi",
            "--host", "127.0.0.1", "--port", str(port), "--workers", str(_WORKERS),
            "--blocking-threads", "32", "--no-ws",
            "--working-dir", folder, "constant:app",
        ]  # fmt: skip
        with http_load.running(command, dict(os.environ), port) as server:
            yield port, server


if __name__ == "__main__":
    sys.exit(main())
