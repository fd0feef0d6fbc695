"""What the Login API hands to Kafka: facts about attempts, and commands about blocks."""

from dataclasses import dataclass
from typing import Protocol

from login_blocking.attempts import Attempt
from login_blocking.commands import Command
from login_blocking.names import BLOCK_COMMANDS, LOGIN_ATTEMPTS


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a topic; `ts` is its own stamp in ms since the epoch."""

    topic: str
    key: bytes | None
    value: bytes
    ts: int


class RecordPublisher(Protocol):
    """What the routes need; all methods raise PartUnavailableError("kafka")."""

    def publish(self, record: Record) -> None:
        """Returns when the record is safe: it will reach its topic, once, in its key's order."""

    def publish_soon(self, record: Record) -> None:
        """Returns at once; the same, but for a process that dies the next moment."""

    def ping(self) -> None:
        """Returns if records reach Kafka now."""

    def waiting(self) -> int | None:
        """How many records wait in the outbox; None before anybody could tell. Raises nothing."""


def attempt_record(attempt: Attempt) -> Record:
    """The record of an attempt."""
    return Record(LOGIN_ATTEMPTS, attempt.key(), attempt.encode(), attempt.ts)


def command_record(command: Command) -> Record:
    """The record of a command."""
    return Record(BLOCK_COMMANDS, command.key(), command.encode(), command.ts)
