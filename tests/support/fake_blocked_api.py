"""Speaks docs/blocked-api.md over real sockets, as far as clients hear it, and can misbehave."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from login_blocking.moments import iso
from login_blocking.subjects import SubjectType
from tests.support.services import free_port

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class FakeBlockedApi:
    """What it holds and how it behaves; all of it may be changed while it runs."""

    token: str | None = None
    status: str = "complete"
    redis: str = "ok"
    beat_s: float | None = 0.1
    instead: dict[str, Answer] = field(default_factory=dict)
    """Path → what is answered in place of the truth."""
    most_behind: int | None = None
    """A stream does not tell of more changes at its start: reset."""
    in_pieces_of: int | None = None
    """Bytes: the full list comes chunked."""
    pieces_sent: int | None = None
    """So many, and the connection ends; None: all."""
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    port: int = 0

    def __post_init__(self) -> None:
        self.entries: dict[tuple[SubjectType, str], dict[str, Any]] = {}
        self.told: list[bytes] = []
        self.changed = threading.Condition()
        self.epoch = 1
        self.connections: set[socket.socket] = set()
        self.running = False
        self.listening = 0
        self._history: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def version(self) -> str:
        return f"{self.epoch}-{len(self._history)}"

    def block(
        self, *subjects: str, subject_type: SubjectType = "user", for_s: float | None = 3_600
    ) -> None:
        until = None if for_s is None else iso(int((time.time() + for_s) * 1_000))
        told = [
            {
                "subject_type": subject_type,
                "subject": subject,
                "blocked_until": until,
                "rule": "user-failures",
                "since": iso(int(time.time() * 1_000)),
                "level": 1,
            }
            for subject in subjects
        ]
        self._change(added=told)

    def unblock(self, *subjects: str, subject_type: SubjectType = "user") -> None:
        gone = [{"subject_type": subject_type, "subject": subject} for subject in subjects]
        self._change(removed=gone)

    def say_status(self, status: str, redis: str = "ok") -> None:
        self.status, self.redis = status, redis
        self.say(self.status_event())

    def empty(self) -> None:
        """As if Redis had been emptied: another list, and blocks may be missing."""
        with self.changed:
            self.entries.clear()
            self._history.clear()
            self.epoch += 1
            self.status = "refilling"
        self.say(self.reset_event())

    def say(self, raw: bytes) -> None:
        """To all who listen now."""
        with self.changed:
            self.told.append(raw)
            self.changed.notify_all()

    def hang_up(self) -> None:
        """Ends every connection, as a proxy might."""
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def full(self) -> bytes:
        with self.changed:
            return _json(self._document(full=True, added=[*self.entries.values()]))

    def status_event(self) -> bytes:
        return _event("status", {"status": self.status, "redis": self.redis})

    def reset_event(self) -> bytes:
        return _event("reset", {"version": self.version})

    def since(self, version: str) -> bytes:
        """The events with which a stream begins."""
        epoch, _, number = version.partition("-")
        known = epoch == str(self.epoch) and number.isdigit()
        if not known or int(number) > len(self._history):
            return self.reset_event()
        later = self._history[int(number) :]
        if self.most_behind is not None and len(later) > self.most_behind:
            return self.reset_event()
        return b"".join(map(_change_event, later or [self._document()]))

    @contextmanager
    def serving(self) -> Iterator["FakeBlockedApi"]:
        """A second time it has the same port, and all that it held."""
        server = _Server(self)
        self.port = server.server_port
        self.running = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.running = False
            server.shutdown()
            self.hang_up()
            with self.changed:
                self.changed.notify_all()
            server.server_close()
            thread.join()

    def _change(
        self,
        added: list[dict[str, Any]] | None = None,
        removed: list[dict[str, Any]] | None = None,
    ) -> None:
        with self.changed:
            for entry in added or []:
                self.entries[entry["subject_type"], entry["subject"]] = entry
            for entry in removed or []:
                self.entries.pop((entry["subject_type"], entry["subject"]), None)
            self._history.append({})
            document = self._document(added=added or [], removed=removed or [])
            self._history[-1] = document
            self.say(_change_event(document))

    def _document(self, *, full: bool = False, **lists: list[dict[str, Any]]) -> dict[str, Any]:
        empty: dict[str, Any] = {"added": [], "changed": [], "removed": []}
        return {"version": self.version, "full": full, **empty, **lists}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, fake: FakeBlockedApi) -> None:
        self.fake = fake
        super().__init__(("127.0.0.1", fake.port or free_port()), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.fake = self.server.fake
        self.fake.connections.add(self.connection)

    def finish(self) -> None:
        self.fake.connections.discard(self.connection)
        super().finish()

    def do_GET(self) -> None:
        fake = self.fake
        fake.asked.append((self.path, dict(self.headers)))
        if fake.token and self.headers.get("Authorization") != f"Bearer {fake.token}":
            self._answer(401, {}, b'{"error":"token"}')
        elif self.path in fake.instead:
            self._answer(*fake.instead[self.path])
        elif self.path == "/blocked/changes":
            headers = {"Block-List-Status": fake.status, "Block-List-Version": fake.version}
            if fake.in_pieces_of is None:
                self._answer(200, headers, fake.full())
            else:
                self._answer_in_pieces(headers, fake.full(), fake.in_pieces_of)
        elif self.path == "/blocked/stream":
            self._stream(self.headers["Last-Event-ID"])
        else:
            self._answer(404, {}, b"{}")

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer_in_pieces(self, headers: dict[str, str], body: bytes, piece_bytes: int) -> None:
        self.send_response(200)
        for name, value in {**headers, "Transfer-Encoding": "chunked"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        pieces = [body[at : at + piece_bytes] for at in range(0, len(body), piece_bytes)]
        for piece in pieces[: self.fake.pieces_sent]:
            self._chunk(piece)
        if self.fake.pieces_sent is None:
            self._chunk(b"")

    def _stream(self, version: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.close_connection = True
        fake = self.fake
        with fake.changed:
            place = len(fake.told)
            begin = b"retry: 50\n" + fake.status_event() + fake.since(version)
            fake.listening += 1
        try:
            self._chunk(begin)
            self._follow(place)
        finally:
            with fake.changed:
                fake.listening -= 1

    def _follow(self, place: int) -> None:
        fake = self.fake
        while fake.running:
            with fake.changed:
                if place == len(fake.told) and fake.running:
                    fake.changed.wait(fake.beat_s)
                later = fake.told[place:]
                place += len(later)
            if later:
                self._chunk(b"".join(later))
            elif fake.beat_s is not None:
                self._chunk(b": alive\n\n")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))


def _change_event(document: dict[str, Any]) -> bytes:
    return f"id: {document['version']}\n".encode() + _event("change", document)


def _event(kind: str, document: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: ".encode() + _json(document) + b"\n\n"


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()
