"""The life of blocks: state in, (state, events) out. Decides everything; does nothing itself.

Semantics: docs/semantics.md. All times in ms since the epoch.
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Final

from login_blocking.commands import Action, Command
from login_blocking.events import BlockEvent, EventKind
from login_blocking.policy import OPERATOR_RULE, Places, Policy, Rule
from login_blocking.subjects import Subject

REASSERT_EVERY_MS: Final = 60_000
"""How often a live block is written to Redis again, so that an emptied Redis fills by itself."""

TOMBSTONE_KEPT_MS: Final = 3_600_000
"""How long Redis remembers an unblock: longer than any writer with an older state lives."""

_LATENESS_MS: Final = 86_400_000
"""How much later than its own time an attempt may arrive and still meet what it must not count."""


@dataclass(frozen=True, slots=True)
class Hit:
    """A failure at `ts` that fulfils a rule; it rests on failures from `oldest` on."""

    subject: Subject
    rule: str
    ts: int
    oldest: int
    attempt_id: str


@dataclass(frozen=True, slots=True)
class Block:
    """The latest block of one subject by one rule; `until` None means for ever.

    `rests_on` is the oldest failure it consumed. `unblocked_at` is when an unblock ended it early.
    `places` is the rule's: where logins must come from to be refused.
    `closed` tells that its end has been announced, as an `expired` or `unblocked` event.
    """

    since: int
    until: int | None
    level: int
    reason: str
    rests_on: int
    attempt_id: str | None = None
    unblocked_at: int | None = None
    closed: bool = False
    places: Places = "any"

    @property
    def end(self) -> int | None:
        """When it ends or ended, None while it is for ever."""
        return self.until if self.unblocked_at is None else self.unblocked_at

    def is_live(self, now: int) -> bool:
        """Whether it blocks at `now`; its last millisecond is the one before `end`."""
        return self.end is None or self.end > now


@dataclass(frozen=True, slots=True)
class SubjectBlocks:
    """All that is remembered of one subject: rule → latest block, and the last unblock."""

    blocks: Mapping[str, Block] = field(default_factory=dict)
    unblocked_at: int | None = None

    def with_block(self, rule: str, block: Block) -> "SubjectBlocks":
        """The same with `block` as the latest of `rule`."""
        return replace(self, blocks={**self.blocks, rule: block})


@dataclass(frozen=True, slots=True)
class RedisEntry:
    """One rule's entry in the Redis hash of a subject.

    `version` orders the decisions about a subject and rule by their own times, so that whoever
    writes later with an older decision changes nothing. `keep_until` None means for ever.
    """

    version: int
    since: int
    until: int | None
    level: int
    reason: str
    attempt_id: str | None
    unblocked: bool
    keep_until: int | None
    places: Places = "any"

    def to_json(self) -> str:
        """The entry as Redis holds it."""
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":"))


Decision = tuple[SubjectBlocks, list[BlockEvent]]


def on_hit(state: SubjectBlocks, hit: Hit, rule: Rule, policy: Policy) -> Decision:
    """Starts a block from the hit's time, unless the rule blocks already or the hit is not fresh.

    A block consumes its failures: a hit that rests on any failure not later than the end of the
    rule's last block, or than the last unblock, changes nothing.
    """
    if policy.exempt.cover(hit.subject):
        return state, []
    rests_on = min(hit.ts, hit.oldest)
    if state.unblocked_at is not None and rests_on <= state.unblocked_at:
        return state, []
    previous = state.blocks.get(rule.name)
    events = []
    if previous is not None:
        if previous.end is None or rests_on <= previous.end:
            return state, []
        if not previous.closed:
            events.append(_expired(hit.subject, rule.name, previous, previous.end))
    level = _next_level(previous, hit.ts, policy)
    duration = rule.duration_ms(level)
    until = None if duration is None else hit.ts + duration
    block = Block(hit.ts, until, level, rule.reason, rests_on, hit.attempt_id, places=rule.places)
    events.append(_event(EventKind.BLOCKED, hit.ts, hit.subject, rule.name, block))
    return state.with_block(rule.name, block), events


def on_command(state: SubjectBlocks, command: Command, policy: Policy) -> Decision:
    """Blocks or unblocks by hand. An older command than the last one changes nothing."""
    if state.unblocked_at is not None and command.ts <= state.unblocked_at:
        return state, []
    if command.action is Action.UNBLOCK:
        return _unblock(state, command)
    return _block(state, command, policy)


def on_time(state: SubjectBlocks, subject: Subject, now: int, policy: Policy) -> Decision:
    """Announces the blocks that have ended by `now`, and forgets what can no longer matter."""
    events = []
    blocks = {}
    for rule, block in state.blocks.items():
        kept = block
        if not block.closed and block.end is not None and block.end <= now:
            events.append(_expired(subject, rule, block, block.end))
            kept = replace(block, closed=True)
        if kept.end is None or now < kept.end + _remembered_ms(policy):
            blocks[rule] = kept
    unblocked_at = state.unblocked_at
    if unblocked_at is not None and unblocked_at + _unblock_remembered_ms(policy) <= now:
        unblocked_at = None
    return SubjectBlocks(blocks, unblocked_at), events


def next_wakeup(state: SubjectBlocks, subject: Subject, now: int, policy: Policy) -> int | None:
    """When `on_time` is due next, None if never.

    Blocks are reasserted at a moment of the minute that is the subject's own, which spreads the
    writes and lets a timer that is set twice be one timer.
    """
    due = [max(now + 1, end) for end in open_ends(state)]
    if redis_entries(state, now):
        offset = zlib.crc32(subject.key.encode()) % REASSERT_EVERY_MS
        due.append(now + REASSERT_EVERY_MS - (now - offset) % REASSERT_EVERY_MS)
    elif not due:
        due = [
            max(now + 1, block.end + _remembered_ms(policy))
            for block in state.blocks.values()
            if block.end is not None
        ]
        if state.unblocked_at is not None:
            due.append(max(now + 1, state.unblocked_at + _unblock_remembered_ms(policy)))
    return min(due, default=None)


def open_ends(state: SubjectBlocks) -> list[int]:
    """The ends of the blocks whose end has not been announced yet."""
    return [
        block.end for block in state.blocks.values() if not block.closed and block.end is not None
    ]


def redis_entries(state: SubjectBlocks, now: int) -> dict[str, RedisEntry]:
    """What Redis should hold of the subject at `now`: live blocks and fresh tombstones."""
    entries = {}
    for rule, block in state.blocks.items():
        unblocked = block.unblocked_at is not None
        keep_until = block.end
        if block.unblocked_at is not None:
            keep_until = block.unblocked_at + TOMBSTONE_KEPT_MS
        if keep_until is not None and keep_until <= now:
            continue
        decided_at = block.since if block.unblocked_at is None else block.unblocked_at
        entries[rule] = RedisEntry(
            version=2 * decided_at + unblocked,
            since=block.since,
            until=block.end,
            level=block.level,
            reason=block.reason,
            attempt_id=block.attempt_id,
            unblocked=unblocked,
            keep_until=keep_until,
            places=block.places,
        )
    return entries


def encode_state(state: SubjectBlocks) -> str:
    """The state as text, the form in which checkpoints keep it."""
    return json.dumps(asdict(state), ensure_ascii=False, separators=(",", ":"))


def decode_state(text: str) -> SubjectBlocks:
    """The state that `encode_state` wrote."""
    document = json.loads(text)
    blocks = {
        # Snapshots of 0.1.0 know no `rests_on`.
        rule: Block(**{"rests_on": block["since"], **block})
        for rule, block in document["blocks"].items()
    }
    return SubjectBlocks(blocks, document["unblocked_at"])


def _remembered_ms(policy: Policy) -> int:
    """How long after its end a block still matters: for the next level, or for late attempts."""
    return max(policy.forget_level_after_ms, policy.longest_window_ms) + _LATENESS_MS


def _unblock_remembered_ms(policy: Policy) -> int:
    """How long an unblock matters to failures from before it, which may still arrive."""
    return policy.longest_window_ms + _LATENESS_MS


def _unblock(state: SubjectBlocks, command: Command) -> Decision:
    """Ends every block that began by then, or that rests on failures from before.

    The latter because the hit may have been judged before the command was read.
    """
    events = []
    blocks = dict(state.blocks)
    for rule, block in state.blocks.items():
        ended = block.end is not None and block.end <= command.ts
        if ended or min(block.since, block.rests_on) > command.ts:
            continue
        at = max(command.ts, block.since)
        level = 0 if command.reset_levels else block.level
        blocks[rule] = replace(block, unblocked_at=at, closed=True, level=level)
        if not block.closed:
            events.append(_unblocked(command, rule, block, at))
    if command.reset_levels:
        blocks = {rule: replace(block, level=0) for rule, block in blocks.items()}
    return SubjectBlocks(blocks, command.ts), events


def _block(state: SubjectBlocks, command: Command, policy: Policy) -> Decision:
    previous = state.blocks.get(OPERATOR_RULE)
    events = []
    if previous is not None:
        if command.ts <= previous.since:
            return state, []
        if previous.end is None or previous.end > command.ts:
            events.append(_unblocked(command, OPERATOR_RULE, previous, command.ts))
        elif not previous.closed:
            events.append(_expired(command.subject, OPERATOR_RULE, previous, previous.end))
    level = _next_level(previous, command.ts, policy)
    block = Block(command.ts, command.until, level, command.reason, rests_on=command.ts)
    event = _event(EventKind.BLOCKED, command.ts, command.subject, OPERATOR_RULE, block)
    events.append(replace(event, by=command.by))
    return state.with_block(OPERATOR_RULE, block), events


def _next_level(previous: Block | None, ts: int, policy: Policy) -> int:
    if previous is None:
        return 1
    forgotten = previous.end is not None and ts - previous.end >= policy.forget_level_after_ms
    return 1 if forgotten else previous.level + 1


def _unblocked(command: Command, rule: str, block: Block, at: int) -> BlockEvent:
    event = _event(EventKind.UNBLOCKED, at, command.subject, rule, block)
    return replace(event, reason=command.reason, by=command.by)


def _expired(subject: Subject, rule: str, block: Block, end: int) -> BlockEvent:
    return _event(EventKind.EXPIRED, end, subject, rule, block)


def _event(kind: EventKind, ts: int, subject: Subject, rule: str, block: Block) -> BlockEvent:
    return BlockEvent(
        ts=ts,
        event=kind,
        subject_type=subject.type,
        subject=subject.key,
        rule=rule,
        since=block.since,
        until=block.until,
        level=block.level,
        attempt_id=block.attempt_id,
        reason=block.reason,
        places=block.places,
    )
