"""The Login API around parts in memory, and parts that fail."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from argon2 import PasswordHasher
from flask.testing import FlaskClient
from pydantic import SecretStr

from login_api.accounts import NameTakenError
from login_api.app import create_app
from login_api.attempt_history import History
from login_api.errors import PartUnavailableError
from login_api.guard import Admission, Request
from login_api.metrics import Metrics
from login_api.parts import Parts
from login_api.passwords import Argon2Hasher
from login_api.places import Places
from login_api.records import Record
from login_blocking.attempts import Attempt, Outcome, decode
from login_blocking.client_address import ClientAddress
from login_blocking.commands import Command
from login_blocking.commands import decode as decode_command
from login_blocking.names import BLOCK_COMMANDS, LOGIN_ATTEMPTS
from login_blocking.subjects import Subject

NOW = 1_795_478_400_123
"""2026-11-24T00:00:00.123Z"""
MAX_BODY_BYTES = 16_384
TOKEN = "a token of the tests"


class InMemoryAccounts:
    def __init__(self) -> None:
        self._hashes: dict[str, str] = {}

    def create(self, user: str, password_hash: str) -> None:
        if user in self._hashes:
            raise NameTakenError
        self._hashes[user] = password_hash

    def password_hash(self, user: str) -> str | None:
        return self._hashes.get(user)

    def replace_hash(self, user: str, old: str, new: str) -> bool:
        if self._hashes.get(user) != old:
            return False
        self._hashes[user] = new
        return True

    def delete(self, user: str, password_hash: str) -> bool:
        if self._hashes.get(user) != password_hash:
            return False
        del self._hashes[user]
        return True

    def ping(self) -> None:
        pass


class InMemoryGuard:
    """Blocks as they are put in; one limit on users, whose places never come free by time."""

    def __init__(self, now: int = NOW, threshold: int = 1_000) -> None:
        self.now = now
        self.threshold = threshold
        self.ends: dict[Subject, int | None] = {}
        self.taken: defaultdict[str, set[str]] = defaultdict(set)
        self.places: defaultdict[str, set[str]] = defaultdict(set)

    def recall(self, user: str, address: str) -> None:
        pass

    def admit(self, request: Request) -> Admission:
        known = request.place in self.places[request.user]
        subjects = [Subject("user", request.user), Subject("ip", request.address)]
        ends = [self.ends[subject] for subject in subjects if subject in self.ends]
        if None in ends:
            return Admission(self.now, known, Outcome.BLOCKED, None)
        live = [end for end in ends if end is not None and end > self.now]
        if live:
            return Admission(self.now, known, Outcome.BLOCKED, max(live))
        taken = self.taken[request.user]
        if len(taken - {request.id}) >= self.threshold:
            return Admission(self.now, known, Outcome.LIMITED, self.now + 60_000)
        taken.add(request.id)
        return Admission(self.now, known)

    def succeed(self, request: Request, *, known: bool) -> None:
        self.give_back(request)
        if request.place:
            self.places[request.user].add(request.place)

    def give_back(self, request: Request) -> None:
        self.taken[request.user].discard(request.id)

    def forget(self, subject: Subject) -> None:
        self.taken.pop(subject.key, None)

    def forget_places(self, user: str) -> None:
        self.places.pop(user, None)

    def clock(self) -> int:
        return self.now

    def ping(self) -> None:
        pass


class InMemoryRecordPublisher:
    def __init__(self) -> None:
        self.published: list[Record] = []

    def publish(self, record: Record) -> None:
        self.published.append(record)

    def publish_soon(self, record: Record) -> None:
        self.published.append(record)

    def waiting(self) -> int:
        return 0

    def ping(self) -> None:
        pass


class RecordingPasswordHasher(PasswordHasher):
    """As cheap as argon2 allows; `verified` holds the parameters of each hash compared with."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.verified: list[str] = []

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]  # noqa: A002
        self.verified.append(str(hash).rpartition("$")[0].rpartition("$")[0])
        return bool(super().verify(hash, password))


class FailingAccounts:
    def create(self, user: str, password_hash: str) -> NoReturn:
        raise PartUnavailableError("postgres")

    def password_hash(self, user: str) -> NoReturn:
        raise PartUnavailableError("postgres")

    def replace_hash(self, user: str, old: str, new: str) -> NoReturn:
        raise PartUnavailableError("postgres")

    def delete(self, user: str, password_hash: str) -> NoReturn:
        raise PartUnavailableError("postgres")

    def ping(self) -> NoReturn:
        raise PartUnavailableError("postgres")


class FailingGuard:
    def recall(self, user: str, address: str) -> None:
        pass

    def admit(self, request: Request) -> NoReturn:
        raise PartUnavailableError("redis")

    def succeed(self, request: Request, *, known: bool) -> NoReturn:
        raise PartUnavailableError("redis")

    def give_back(self, request: Request) -> NoReturn:
        raise PartUnavailableError("redis")

    def forget(self, subject: Subject) -> NoReturn:
        raise PartUnavailableError("redis")

    def forget_places(self, user: str) -> NoReturn:
        raise PartUnavailableError("redis")

    def clock(self) -> NoReturn:
        raise PartUnavailableError("redis")

    def ping(self) -> NoReturn:
        raise PartUnavailableError("redis")


class FailingRecordPublisher:
    def publish(self, record: Record) -> NoReturn:
        raise PartUnavailableError("kafka")

    def publish_soon(self, record: Record) -> NoReturn:
        raise PartUnavailableError("kafka")

    def waiting(self) -> int:
        return 7

    def ping(self) -> NoReturn:
        raise PartUnavailableError("kafka")


@dataclass
class LoginApi:
    """An application around its parts; replace one before the first `client()`."""

    accounts: InMemoryAccounts | FailingAccounts = field(default_factory=InMemoryAccounts)
    guard: InMemoryGuard | FailingGuard = field(default_factory=InMemoryGuard)
    publisher: InMemoryRecordPublisher | FailingRecordPublisher = field(
        default_factory=InMemoryRecordPublisher
    )
    password_hasher: RecordingPasswordHasher = field(default_factory=RecordingPasswordHasher)
    now: int = NOW
    open_without_guard: bool = False
    admin_token: SecretStr | None = field(default_factory=lambda: SecretStr(TOKEN))
    client_address: ClientAddress = field(default_factory=ClientAddress)
    dashboard_origins: tuple[str, ...] = ()

    def client(self) -> FlaskClient:
        metrics = Metrics()
        hasher = Argon2Hasher(self.password_hasher, 4, 8, 1_000, metrics.hashes_in_hand)
        parts = Parts(
            accounts=self.accounts,
            guard=self.guard,
            places=Places(b"key of the tests"),
            publisher=self.publisher,
            history=self,
            admin_token=self.admin_token,
            metrics=metrics,
            hasher=hasher,
            clock=lambda: self.now,
            open_without_guard=self.open_without_guard,
            client_address=self.client_address,
            dashboard_origins=self.dashboard_origins,
        )
        return create_app(parts, max_body_bytes=MAX_BODY_BYTES).test_client()

    def published(self) -> list[Attempt]:
        assert isinstance(self.publisher, InMemoryRecordPublisher)
        records = self.publisher.published
        return [decode(it.value) for it in records if it.topic == LOGIN_ATTEMPTS]

    def of_user(self, user: str, limit: int) -> History:
        own = [attempt for attempt in self.published() if attempt.user == user]
        return History(own[::-1][:limit], None)

    def commands(self) -> list[Command]:
        assert isinstance(self.publisher, InMemoryRecordPublisher)
        records = self.publisher.published
        return [decode_command(it.value) for it in records if it.topic == BLOCK_COMMANDS]

    def block(self, subject: Subject, until: int | None) -> None:
        assert isinstance(self.guard, InMemoryGuard)
        self.guard.ends[subject] = until


def credentials(user: str, password: str) -> Mapping[str, str]:
    return {"user": user, "pass": password}
