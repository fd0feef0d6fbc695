"""The one call of the Login API that the dashboard makes, as another origin."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class StubLoginApi:
    """Answers `POST /admin/unblock` with `status`, and keeps what it was sent."""

    origin: str = ""
    allowed_origin: str = ""
    status: int = 202
    document: dict[str, Any] = field(default_factory=lambda: {"success": True, "id": "1"})
    received: list[tuple[str | None, Any]] = field(default_factory=list)


@contextmanager
def running_stub() -> Iterator[StubLoginApi]:
    stub = StubLoginApi()

    class Handler(BaseHTTPRequestHandler):
        def do_OPTIONS(self) -> None:
            self._answer(204, b"")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/admin/unblock":
                stub.received.append((self.headers["Authorization"], json.loads(body)))
            self._answer(stub.status, json.dumps(stub.document).encode())

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Access-Control-Allow-Origin", stub.allowed_origin)
            self.send_header("Access-Control-Allow-Headers", "authorization, content-type")
            self.send_header("Access-Control-Allow-Methods", "POST")
            if status != 204:
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stub.origin = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
