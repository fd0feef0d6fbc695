"""Block events: the audit trail in topic `block-events`, enough to rebuild Redis."""

import json
import uuid
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

from login_blocking.policy import Places
from login_blocking.subjects import Subject, SubjectType

VERSION: Final = 1
_NAMESPACE: Final = uuid.UUID("5b0a4a39-3f0d-4c43-9c6e-0f6f2a5c2d11")


class EventKind(StrEnum):
    """What happened to a block."""

    BLOCKED = "blocked"
    UNBLOCKED = "unblocked"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class BlockEvent:
    """One change of one rule's block of one subject; times in ms since the epoch.

    `ts` is when it took effect, `since` and `until` are the block's, `until` None means for ever.
    `attempt_id` names the attempt that completed the hit, None where a command made the block.
    `reason` is the rule in words, or the operator's; `by` is the operator, None for a rule.
    """

    ts: int
    event: EventKind
    subject_type: SubjectType
    subject: str
    rule: str
    since: int
    until: int | None
    level: int
    attempt_id: str | None
    reason: str
    by: str | None = None
    places: Places = "any"

    @property
    def id(self) -> str:
        """A function of subject, rule, event and since: a replay writes the same id again."""
        name = json.dumps([self.subject_type, self.subject, self.rule, self.event, self.since])
        return str(uuid.uuid5(_NAMESPACE, name))

    def encode(self) -> bytes:
        """The record's value: compact JSON in UTF-8."""
        document = {"v": VERSION, "id": self.id, **asdict(self)}
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()

    @property
    def about(self) -> Subject:
        """Whom the event is about."""
        return Subject(self.subject_type, self.subject)


def decode(value: bytes) -> BlockEvent:
    """The event that a record's value holds; raises ValueError, KeyError or TypeError if none."""
    document: Any = json.loads(value)
    if not isinstance(document, dict):
        raise TypeError("not a JSON object")
    if document.pop("v") != VERSION:
        raise ValueError("v: not a known version")
    del document["id"]
    return BlockEvent(**{**document, "event": EventKind(document["event"])})
