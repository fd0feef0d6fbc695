"""examples/nginx.conf in a real nginx before `python -m blocked_client.auth_request`."""

import base64
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from tests.integration.test_auth_request import running, running_auth_request
from tests.support.fake_blocked_api import FakeBlockedApi
from tests.support.services import REPOSITORY, free_port
from tests.support.waiting import eventually

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")

pytestmark = [
    pytest.mark.service,
    pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: nginx-light)"),
]


@pytest.fixture
def api() -> Iterator[FakeBlockedApi]:
    with FakeBlockedApi().serving() as serving:
        yield serving


@pytest.fixture
def auth_port() -> int:
    return free_port()


@pytest.fixture
def auth(api: FakeBlockedApi, auth_port: int) -> Iterator[None]:
    with running_auth_request(api, auth_port):
        yield


@pytest.fixture
def application() -> Iterator[int]:
    """Asks for the password `pw`, whoever comes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("Authorization", "").removeprefix("Basic ")
            right = base64.b64decode(given).endswith(b":pw")
            self.send_response(200 if right else 401)
            self.end_headers()
            self.wfile.write(b"members only" if right else b"wrong")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def nginx(tmp_path: Path, auth_port: int, application: int) -> Iterator[str]:
    port = free_port()
    text = (REPOSITORY / "examples" / "nginx.conf").read_text()
    ports = {"127.0.0.1:8080;": port, "127.0.0.1:5001;": auth_port, "127.0.0.1:8000;": application}
    for example, here in ports.items():
        assert text.count(example) == 1
        text = text.replace(example, f"127.0.0.1:{here};")
    (tmp_path / "nginx.conf").write_text(f"pid {tmp_path}/nginx.pid;\nerror_log stderr;\n{text}")
    command = [str(NGINX), "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    with running([*command, "-g", "daemon off;"], port):
        yield f"http://127.0.0.1:{port}/"


def as_user(url: str, name: str, password: str = "pw", **headers: str) -> requests.Response:
    return requests.get(url, auth=(name, password), headers=headers, timeout=10)


def test_nginx_refuses_who_is_blocked_and_lets_everybody_else_in(
    api: FakeBlockedApi, auth: None, nginx: str
) -> None:
    assert as_user(nginx, "alice").text == "members only"
    assert requests.get(nginx, timeout=10).status_code == 401
    api.block("alice")
    api.block("mallory", for_s=None)
    eventually(lambda: as_user(nginx, "alice").status_code == 403, within_s=10)
    refused = as_user(nginx, "ALICE")
    wrong = as_user(nginx, "ALICE", "guess")
    assert (refused.status_code, refused.content) == (wrong.status_code, wrong.content)
    assert refused.status_code == 403
    assert refused.headers["Content-Type"] == "application/json"
    assert 3_500 < int(refused.headers["Retry-After"]) <= 3_600
    assert refused.json()["blocked_until"] == api.entries["user", "alice"]["blocked_until"]
    forever = as_user(nginx, "mallory")
    assert forever.text == '{"error":"User blocked","blocked_until":null}\n'
    assert "Retry-After" not in forever.headers
    assert as_user(nginx, "bob").status_code == 200
    forged = {"X-Forwarded-User": "bob", "X-Forwarded-For": "198.51.100.1"}
    assert as_user(nginx, "alice", "pw", **forged).status_code == 403
    api.unblock("alice")
    eventually(lambda: as_user(nginx, "alice").status_code == 200, within_s=10)
    api.block("127.0.0.1", subject_type="ip")
    eventually(lambda: as_user(nginx, "bob").status_code == 403, within_s=10)
    assert json.loads(as_user(nginx, "bob", "pw", **forged).text)["error"] == "User blocked"


@pytest.mark.parametrize("path", ["healthz", "readyz", "%68ealthz", "healthz?x", "blocked"])
def test_no_path_of_a_stranger_reaches_the_target(
    api: FakeBlockedApi, auth: None, nginx: str, path: str
) -> None:
    api.block("alice")
    eventually(lambda: as_user(nginx, "alice").status_code == 403, within_s=10)
    assert as_user(nginx + path, "alice").status_code in (403, 404)
    if path != "blocked":
        assert as_user(nginx + path, "bob").text == "members only"


def test_a_name_that_is_not_utf8_is_refused(api: FakeBlockedApi, auth: None, nginx: str) -> None:
    api.block("josé")
    eventually(lambda: as_user(nginx, "bob").status_code == 200, within_s=10)
    for name in ("josé".encode("latin-1"), b"bob\x01"):
        basic = base64.b64encode(name + b":pw").decode()
        told = requests.get(nginx, headers={"Authorization": f"Basic {basic}"}, timeout=10)
        assert told.status_code == 403
        assert told.json() == {"error": "The user name cannot be read", "blocked_until": None}
    spelled = base64.b64encode("JOSÉ:pw".encode()).decode()
    told = requests.get(nginx, headers={"Authorization": f"Basic {spelled}"}, timeout=10)
    assert (told.status_code, told.json()["error"]) == (403, "User blocked")


def test_nobody_is_let_in_before_the_list_is_known(
    api: FakeBlockedApi, auth_port: int, nginx: str
) -> None:
    api.instead["/blocked/changes"] = (503, {}, b"{}")
    with running_auth_request(api, auth_port):
        told = as_user(nginx, "bob")
        assert (told.status_code, told.headers["Retry-After"]) == (503, "1")
        assert told.json() == {"error": "It is not known who is blocked; try again"}
        del api.instead["/blocked/changes"]
        eventually(lambda: as_user(nginx, "bob").status_code == 200, within_s=30)


def test_nobody_is_let_in_while_the_target_is_down(nginx: str) -> None:
    assert as_user(nginx, "alice").status_code == 500
