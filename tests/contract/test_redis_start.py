"""redis/start.sh with the real server: users get their passwords, nobody else learns them."""

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import redis

from tests.support.services import REPOSITORY, free_port
from tests.support.waiting import eventually
from tools.stack.binaries import redis_server

pytestmark = pytest.mark.service

USERS = ("admin", "detector", "login_api", "blocked_api")


def environment(folder: Path) -> dict[str, str]:
    """With the server on PATH under the name that it has in an image."""
    (folder / "bin").mkdir()
    (folder / "data").mkdir()
    (folder / "bin" / "valkey-server").symlink_to(redis_server())
    return {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "TMPDIR": str(folder),
        "REDIS_DATA": str(folder / "data"),
        **{f"REDIS_{user.upper()}_PASSWORD": secrets.token_urlsafe(24) for user in USERS},
    }


@contextmanager
def started(given: dict[str, str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = ["sh", str(REPOSITORY / "redis" / "start.sh"), "--port", str(port)]
    with subprocess.Popen(command, env=given, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.terminate()


def connection(given: dict[str, str], port: int, user: str) -> redis.Redis:
    password = given[f"REDIS_{user.upper()}_PASSWORD"]
    return redis.Redis(port=port, username=user, password=password, socket_timeout=2)


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:  # one that is slow is no ConnectionError
        return False


def test_each_user_comes_in_with_its_own_password_and_nobody_without(tmp_path: Path) -> None:
    given, port = environment(tmp_path), free_port()
    with started(given, port):
        eventually(lambda: answers(connection(given, port, "admin")))
        for user in USERS:
            assert connection(given, port, user).ping()
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port, socket_timeout=2).ping()
        assert connection(given, port, "admin").acl_users() == sorted(["default", *USERS])


def test_settings_are_the_repositorys_and_the_data_stay_in_their_folder(tmp_path: Path) -> None:
    given, port = environment(tmp_path), free_port()
    with started(given, port):
        admin = connection(given, port, "admin")
        eventually(lambda: answers(admin))
        found: dict[str, str] = admin.config_get("appendonly")  # type: ignore[assignment]  # not async
        assert list(found.values()) == ["yes"]
        assert (tmp_path / "data" / "appendonlydir").is_dir()


def test_the_server_is_the_process_itself_and_holds_no_password(tmp_path: Path) -> None:
    """SIGTERM reaches it, and neither its environment, arguments nor files tell a password."""
    given, port = environment(tmp_path), free_port()
    with started(given, port) as process:
        eventually(lambda: answers(connection(given, port, "admin")))
        server = psutil.Process(process.pid)
        assert "valkey-server" in server.name()
        told = [*server.cmdline(), *server.environ().values()]
        (users,) = tmp_path.glob("users.acl.*")
        told.append(users.read_text())
        for user in USERS:
            password = given[f"REDIS_{user.upper()}_PASSWORD"]
            assert not any(password in words for words in told)
        assert users.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("given_as", [None, ""])
def test_a_missing_password_is_refused_by_its_name(
    tmp_path: Path, user: str, given_as: str | None
) -> None:
    given, name = environment(tmp_path), f"REDIS_{user.upper()}_PASSWORD"
    del given[name]
    if given_as is not None:
        given[name] = given_as
    done = subprocess.run(
        ["sh", str(REPOSITORY / "redis" / "start.sh")],
        env=given, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == 2
    assert name in done.stderr
    assert not list(tmp_path.glob("users.acl.*"))
