"""The hits that design.md §5 demands, found the slow and obvious way."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from login_blocking.attempts import Attempt, Outcome
from login_blocking.blocks import Hit, SubjectBlocks, on_hit
from login_blocking.events import BlockEvent, EventKind
from login_blocking.policy import Policy, Rule
from login_blocking.subjects import Subject


def blocks(policy: Policy, attempts: Sequence[Attempt]) -> list[BlockEvent]:
    """The blocks that a policy demands: hits found here, judged by the lifecycle."""
    started = []
    for rule in policy.rules:
        states: defaultdict[Subject, SubjectBlocks] = defaultdict(SubjectBlocks)
        for hit in hits(rule, attempts):
            states[hit.subject], events = on_hit(states[hit.subject], hit, rule, policy)
            started += [event for event in events if event.event is EventKind.BLOCKED]
    return started


def hits(rule: Rule, attempts: Sequence[Attempt]) -> Iterator[Hit]:
    """Every hit of a rule; users' failures count in order of arrival, all else by event time."""
    ordered = sorted(attempts, key=lambda a: a.ts) if rule.in_event_time_order else attempts
    own: defaultdict[str, list[Attempt]] = defaultdict(list)
    for attempt in ordered:
        key = attempt.user if rule.subject == "user" else attempt.ip
        if key is not None and rule.places in ("any", "known" if attempt.known else "unknown"):
            own[key].append(attempt)
    for key, history in own.items():
        for place, attempt in enumerate(history):
            if attempt.outcome is not Outcome.FAILURE:
                continue
            if rule.count == "failures":
                oldest = _failures(rule, history[: place + 1])
            else:
                oldest = _distinct(rule, attempt, history)
            if oldest is not None:
                yield Hit(Subject(rule.subject, key), rule.name, attempt.ts, oldest, attempt.id)


def _failures(rule: Rule, own: Sequence[Attempt]) -> int | None:
    counted: list[Attempt] = []
    for attempt in own:
        if attempt.outcome is Outcome.FAILURE:
            counted.append(attempt)
        elif attempt.outcome is Outcome.SUCCESS and rule.reset_on_success:
            counted = []
    if len(counted) < rule.threshold:
        return None
    oldest = counted[-rule.threshold].ts
    return oldest if abs(counted[-1].ts - oldest) < rule.within_ms else None


def _distinct(rule: Rule, attempt: Attempt, own: Iterable[Attempt]) -> int | None:
    others = {
        other.ip if rule.subject == "user" else other.user
        for other in own
        if other.outcome is Outcome.FAILURE
        and attempt.ts - rule.within_ms <= other.ts <= attempt.ts
    }
    return attempt.ts if len(others - {None}) >= rule.threshold else None
