"""What is known of each subject from block events alone: enough to fill an emptied Redis."""

from collections.abc import Iterable
from dataclasses import replace

from login_blocking.blocks import Block, SubjectBlocks
from login_blocking.events import BlockEvent, EventKind
from login_blocking.subjects import Subject


def from_events(events: Iterable[BlockEvent]) -> dict[Subject, SubjectBlocks]:
    """The latest block of each subject and rule; the order of the events does not matter."""
    states: dict[Subject, SubjectBlocks] = {}
    for event in sorted(events, key=lambda e: (e.since, e.event is not EventKind.BLOCKED)):
        state = states.get(event.about, SubjectBlocks())
        known = state.blocks.get(event.rule)
        if event.event is EventKind.BLOCKED:
            block = Block(
                event.since,
                event.until,
                event.level,
                event.reason,
                rests_on=event.since,
                attempt_id=event.attempt_id,
                places=event.places,
            )
            states[event.about] = state.with_block(event.rule, block)
        elif known is not None and known.since == event.since:
            unblocked_at = event.ts if event.event is EventKind.UNBLOCKED else None
            ended = replace(known, closed=True, unblocked_at=unblocked_at or known.unblocked_at)
            states[event.about] = state.with_block(event.rule, ended)
    return states
