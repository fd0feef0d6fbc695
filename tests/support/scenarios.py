"""Scenarios as data: loads tests/scenarios/*.yaml, and plays them without an engine."""

import ipaddress
import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from login_blocking import blocks
from login_blocking.attempts import Attempt, Outcome
from login_blocking.blocks import Hit, SubjectBlocks
from login_blocking.commands import Action, Command
from login_blocking.events import BlockEvent
from login_blocking.policy_file import parse_policy
from login_blocking.subjects import Subject, ip_key, user_key
from tests.support import reference

FOLDER: Final = Path(__file__).parents[1] / "scenarios"
BEGINNING: Final = 1_795_500_000_000
"""Not the epoch itself: Flink takes a row of time 0 for late."""

Fact = tuple[str, Subject, str, int, int | None, int]
"""Kind, subject, rule, the event's time, the block's end, level."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Timed attempts and commands, and the events they must lead to."""

    name: str
    attempts: tuple[Attempt, ...]
    commands: tuple[Command, ...]
    expected: frozenset[Fact]
    subjects: frozenset[Subject]


@dataclass(frozen=True, slots=True)
class Family:
    """The scenarios of one file, which share a policy and no subject: one job plays them all."""

    name: str
    policy_text: str
    scenarios: tuple[Scenario, ...]

    def attempts(self) -> list[Attempt]:
        """Of all scenarios, one after the other."""
        return [attempt for scenario in self.scenarios for attempt in scenario.attempts]

    def commands(self) -> list[Command]:
        """Of all scenarios."""
        return [command for scenario in self.scenarios for command in scenario.commands]


def families() -> list[Family]:
    """All files."""
    return [_family(file) for file in sorted(FOLDER.glob("*.yaml"))]


def facts(events: list[BlockEvent]) -> frozenset[Fact]:
    """What a scenario compares of events."""
    return frozenset((e.event.value, e.about, e.rule, e.ts, e.until, e.level) for e in events)


def differences(family: Family, events: list[BlockEvent]) -> dict[str, tuple[set[Fact], set[Fact]]]:
    """Scenario → what is missing and what is too much; empty if all is as expected."""
    found = facts(events)
    wrong = {}
    for scenario in family.scenarios:
        own = {fact for fact in found if fact[1] in scenario.subjects}
        if own != scenario.expected:
            wrong[scenario.name] = (set(scenario.expected - own), own - scenario.expected)
    return wrong


def play(family: Family) -> list[BlockEvent]:
    """The events by reference and lifecycle alone."""
    policy = parse_policy(family.policy_text)
    steps: list[Hit | Command] = list(family.commands())
    for rule in policy.rules:
        steps += reference.hits(rule, family.attempts())
    if family.commands():
        steps.sort(key=lambda step: step.ts)
    states: defaultdict[Subject, SubjectBlocks] = defaultdict(SubjectBlocks)
    events: list[BlockEvent] = []
    for step in steps:
        state = states[step.subject]
        if isinstance(step, Hit):
            hit_rule = policy.rule(step.rule)
            assert hit_rule is not None
            states[step.subject], more = blocks.on_hit(state, step, hit_rule, policy)
        else:
            state, ended = blocks.on_time(state, step.subject, step.ts, policy)
            states[step.subject], more = blocks.on_command(state, step, policy)
            more = ended + more
        events += more
    for subject, state in states.items():
        events += blocks.on_time(state, subject, 2**53, policy)[1]
    return events


def _family(file: Path) -> Family:
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    scenarios = []
    for number, entry in enumerate(document["scenarios"]):
        try:
            scenarios.append(_Reader(number, entry).scenario())
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{file.name}, {entry.get('name')}: {error!r}") from error
    policy = yaml.safe_dump(document["policy"], allow_unicode=True)
    return Family(file.stem, policy, tuple(scenarios))


class _Reader:
    """Reads one scenario; its users get a prefix and its addresses a network of their own."""

    def __init__(self, number: int, entry: dict[str, Any]) -> None:
        self._number = number
        self._entry = entry
        self._apart = entry.get("namespace", True)
        self._addresses: dict[str, str] = {}

    def scenario(self) -> Scenario:
        attempts = tuple(self._attempts())
        commands = tuple(self._command(row) for row in self._entry.get("commands", []))
        expected = frozenset(self._expected())
        subjects = {Subject("user", a.user) for a in attempts if a.user is not None}
        subjects |= {Subject("ip", a.ip) for a in attempts if a.ip is not None}
        subjects |= {command.subject for command in commands}
        return Scenario(self._entry["name"], attempts, commands, expected, frozenset(subjects))

    def _attempts(self) -> Iterator[Attempt]:
        number = 0
        for row in self._entry["attempts"]:
            if isinstance(row, dict):
                times, user, ip = row["at"], row.get("user"), row.get("ip")
                outcome, known = row.get("outcome", "failure"), row.get("known", False)
            else:
                known = False
                at, user, ip, outcome = (list(row) + [None] * 3)[:4]
                times, outcome = [at], outcome or "failure"
            for at in times:
                identity = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self._entry['name']}-{number}"))
                user_name = None if user is None else self._user(user)
                address = None if ip is None else self._ip(ip)
                yield Attempt(identity, _ms(at), user_name, address, Outcome(outcome), known)
                number += 1

    def _command(self, row: dict[str, Any]) -> Command:
        return Command(
            id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self._entry['name']}-{row}")),
            ts=_ms(row["at"]),
            action=Action(row["action"]),
            subject=self._subject(row["subject"]),
            by=row.get("by", "operator"),
            reason=row.get("reason", "asked for"),
            until=None if row.get("until") is None else _ms(row["until"]),
            reset_levels=row.get("reset_levels", False),
        )

    def _expected(self) -> Iterator[Fact]:
        given = [(kind, self._subject(s), *rest) for kind, s, *rest in self._entry["expect"]]
        unblocked = {(s, rule, until) for kind, s, rule, _, until, _ in given if kind != "blocked"}
        for kind, subject, rule, at, until, level in given:
            end = None if until == "never" else _ms(until)
            yield kind, subject, rule, _ms(at), end, level
            if kind == "blocked" and end is not None and (subject, rule, until) not in unblocked:
                yield "expired", subject, rule, end, end, level

    def _subject(self, text: str) -> Subject:
        try:
            address = text.partition("/")[0]
            ipaddress.ip_address(address)
        except ValueError:
            return Subject("user", self._user(text))
        return Subject("ip", self._ip(text))

    def _user(self, text: str) -> str:
        key = user_key(text)
        return f"s{self._number}-{key}" if self._apart else key

    def _ip(self, text: str) -> str:
        key = ip_key(text)
        if not self._apart:
            return key
        place = len(self._addresses) + 1
        return self._addresses.setdefault(key, f"10.{self._number}.0.{place}")


def _ms(seconds: float) -> int:
    return BEGINNING + round(seconds * 1_000)
