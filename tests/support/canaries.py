"""What no run may leave behind in the open: passwords, hashes, tokens and keys."""

from typing import Final

import requests

from tests.support.written_files import written_files
from tools.stack.layout import Stack

PASSWORD: Final = "canary-Tr0ub4dor&3"
_CHUNK: Final = 1 << 24


def leave(stack: Stack) -> None:
    """Sends the canary through every call that takes a password, right, wrong and malformed."""
    right = {"user": "canary-of-the-run", "pass": PASSWORD}
    for path, body in (
        ("register", right),
        ("login", right),
        ("login", {**right, "pass": PASSWORD + "!"}),
        ("login", {**right, "more": PASSWORD}),
        ("login", {"user": PASSWORD, "pass": [PASSWORD]}),
        ("register", {"user": "a", "pass": PASSWORD}),
        ("password", {**right, "new": PASSWORD + "2"}),
        ("unregister", {**right, "pass": PASSWORD + "2"}),
    ):
        requests.post(f"{stack.login_url}/{path}", json=body, timeout=10)
    requests.post(f"{stack.login_url}/login", data=f'{{"pass":"{PASSWORD}', timeout=10)


def found(stack: Stack) -> list[str]:
    """Where a secret stands in what the whole run wrote: logs, topics, Redis, metrics.

    Postgres' own files are left out: the hashes belong there.
    """
    secrets = stack.secrets
    wanted = {
        "password": PASSWORD.encode(),
        "hash": b"$argon2id$",
        "admin token": secrets.admin_token.encode(),
        "key of places": secrets.places.encode(),
    }
    state_dir = stack.state_file.parent
    places = [state_dir / "log", state_dir / "data" / "kafka", state_dir / "data" / "redis"]
    texts = {str(file): _chunks(content) for file, content in written_files(*places)}
    for url in (stack.login_url, stack.blocked_url):
        texts[f"{url}/metrics"] = [requests.get(f"{url}/metrics", timeout=10).content]
    return sorted(
        {
            f"{name} in {place}"
            for place, chunks in texts.items()
            for chunk in chunks
            for name, secret in wanted.items()
            if secret in chunk
        }
    )


def _chunks(content: bytes) -> list[bytes]:
    # Each begins with the end of the one before, lest a secret be cut in two.
    content = content.rstrip(b"\0")  # Kafka makes its index files as long as they may be
    return [content[at : at + _CHUNK + 256] for at in range(0, len(content) or 1, _CHUNK)]
