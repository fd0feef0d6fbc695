"""A client with a copy and no server, and WSGI applications asked without sockets."""

import io
import time
from collections.abc import Callable
from wsgiref.types import WSGIApplication
from wsgiref.util import setup_testing_defaults

from blocked_client import BlockedClient
from blocked_client.answers import ToldBlock
from blocked_client.client import WhenUnknown


def client_of(
    *blocks: ToldBlock,
    known: bool = True,
    when_unknown: WhenUnknown = "refuse",
    max_age_s: float | None = None,
    heard_s_ago: float = 0.0,
) -> BlockedClient:
    """A client that has heard of these blocks, and of nothing since."""
    client = BlockedClient("http://127.0.0.1:1", when_unknown=when_unknown, max_age_s=max_age_s)
    client._copy.take_full(blocks, "complete")
    client._known = known
    client._heard_at_s = time.monotonic() - heard_s_ago if known else None
    return client


def asked(
    app: WSGIApplication, body: bytes = b"", ip: str = "198.51.100.1", **environ: object
) -> tuple[int, dict[str, str], bytes]:
    given: dict[str, object] = {
        "REMOTE_ADDR": ip,
        "QUERY_STRING": "",
        "REQUEST_METHOD": "POST",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
        **environ,
    }
    setup_testing_defaults(given)
    told: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], _: object = None
    ) -> Callable[[bytes], object]:
        told.append((status, headers))
        return lambda _: None

    answer = app(given, start_response)
    content = b"".join(answer)
    if hasattr(answer, "close"):
        answer.close()
    ((status, headers),) = told
    return int(status.split()[0]), dict(headers), content
