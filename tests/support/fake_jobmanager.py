"""A JobManager's REST of a few lines, over HTTP: it answers as it was told, and counts."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FakeJobManager(ThreadingHTTPServer):
    """Answers with these statuses one after the other, with the last one from then on."""

    def __init__(self, *statuses: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses = statuses
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeJobManager

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        server = self.server
        status = server.statuses[min(len(server.asked), len(server.statuses) - 1)]
        server.asked.append(self.command)
        document = {"jobs": []} if status == 200 else {"errors": ["a.b.Error: input array"]}
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815 — http.server's names

    def log_message(self, *_: object) -> None:
        """Nothing: pytest shows what a test prints."""


@contextmanager
def jobmanager(*statuses: int) -> Iterator[FakeJobManager]:
    """One that answers while it is in use."""
    with FakeJobManager(*statuses) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
