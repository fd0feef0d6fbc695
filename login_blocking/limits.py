"""How many unresolved or failed attempts the admission guard lets stand, taken from a policy."""

from dataclasses import dataclass
from typing import Final

from login_blocking.policy import Places, Policy
from login_blocking.subjects import Subject

LONGEST_MS: Final = 600_000
"""A guard forgets after this: it bridges the pipeline's lag, and names are an attacker's choice."""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `threshold` attempts from such `places` within `within_ms`, as a rule counts them."""

    rule: str
    threshold: int
    within_ms: int
    reset_on_success: bool
    places: Places


def limits(policy: Policy, subject: Subject) -> tuple[Limit, ...]:
    """What holds for a subject; nothing for an exempt one."""
    if policy.exempt.cover(subject):
        return ()
    return tuple(
        Limit(
            rule.name,
            rule.threshold,
            min(rule.within_ms, LONGEST_MS),
            rule.reset_on_success,
            rule.places,
        )
        for rule in policy.rules
        if rule.subject == subject.type and rule.count == "failures"
    )
