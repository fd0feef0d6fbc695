"""A policy: the rules by which attempts become blocks. Reading one from YAML: `policy_file`."""

import ipaddress
from dataclasses import dataclass
from typing import Final, Literal

from login_blocking.subjects import Subject, SubjectType

Count = Literal["failures", "distinct_users", "distinct_ips"]
Places = Literal["any", "known", "unknown"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

COUNTABLE: Final[dict[SubjectType, tuple[Count, ...]]] = {
    "user": ("failures", "distinct_ips"),
    "ip": ("failures", "distinct_users"),
}
"""What a rule may count of a subject: its failures, or the different others it failed with."""

LONGEST_BLOCK_MS: Final = 3_650 * 86_400_000
"""Of one that ends at all."""

OPERATOR_RULE: Final = "operator"
"""The name under which blocks made by hand are kept; no rule of a policy may take it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When a failure is a hit, and how long the block that it starts lasts.

    A failures hit needs `threshold` failures less than `within_ms` apart, a distinct hit needs
    `threshold` different others in the last `within_ms`. `block_ms` holds the duration of the
    first, second, … block of a subject by this rule; the last repeats, None means for ever.

    A known place is an address from which the user has logged in before. A rule of `places` other
    than any counts only the failures from such places, and its blocks refuse only logins from them.
    """

    name: str
    subject: SubjectType
    count: Count
    threshold: int
    within_ms: int
    block_ms: tuple[int | None, ...]
    reset_on_success: bool = False
    places: Places = "any"

    def duration_ms(self, level: int) -> int | None:
        """How long the `level`-th block lasts, counted from 1; None means for ever."""
        return self.block_ms[min(level, len(self.block_ms)) - 1]

    @property
    def in_event_time_order(self) -> bool:
        """Whether the rule sees attempts by their own time, not in the order they arrive.

        One user's failures share a partition and so have an order of arrival; everything else
        comes from many partitions, where only event time is the same in every run.
        """
        return self.subject == "ip" or self.count != "failures"

    @property
    def reason(self) -> str:
        """The rule in words, as people read it beside a block."""
        counted = self.count.replace("_", " ").replace("ips", "addresses")
        told = f"{self.threshold} {counted} within {duration_text(self.within_ms)}"
        return told if self.places == "any" else f"{told} from {self.places} places"


@dataclass(frozen=True, slots=True)
class Exemptions:
    """Subjects that no rule blocks; an operator still can. Users are in normal form."""

    users: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    def cover(self, subject: Subject) -> bool:
        """Whether `subject` is exempt; an IPv6 /64 is when any part of it is."""
        if subject.type == "user":
            return subject.key in self.users
        if not self.networks:
            return False
        network = ipaddress.ip_network(subject.key)
        return any(_overlap(network, exempt) for exempt in self.networks)


@dataclass(frozen=True, slots=True)
class Policy:
    """All rules, and when a subject's earlier blocks are forgotten."""

    rules: tuple[Rule, ...]
    forget_level_after_ms: int
    exempt: Exemptions = Exemptions()

    def rule(self, name: str) -> Rule | None:
        """The rule of that name, None if there is none (any more)."""
        return next((rule for rule in self.rules if rule.name == name), None)

    @property
    def longest_window_ms(self) -> int:
        """The longest `within` of all rules."""
        return max(rule.within_ms for rule in self.rules)


_UNITS_MS: Final = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))


def duration_text(milliseconds: int) -> str:
    """A duration as policies write it, in the largest unit that fits: `90s`, `10m`, `24h`."""
    unit, size = next((unit, size) for unit, size in _UNITS_MS if milliseconds % size == 0)
    return f"{milliseconds // size}{unit}"


def parse_duration_ms(text: str) -> int:
    """Milliseconds of a duration such as `500ms`, `60s`, `10m`, `24h` or `30d`; else ValueError."""
    for unit, size in sorted(_UNITS_MS, key=lambda pair: -len(pair[0])):
        number = text.removesuffix(unit)
        if number != text and number.isascii() and number.isdigit():
            return int(number) * size
    raise ValueError(f"not a duration: {text!r}; write a whole number and ms, s, m, h or d")


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)
