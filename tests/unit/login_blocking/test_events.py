from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from login_blocking.events import BlockEvent, EventKind, decode
from login_blocking.subjects import Subject

EVENT = BlockEvent(1, EventKind.BLOCKED, "user", "alice", "rule", 1, 2, 1, "a", "why")


@given(
    st.sampled_from(EventKind), st.integers(0), st.none() | st.integers(0), st.none() | st.just("b")
)
def test_event_survives_its_wire_format(
    kind: EventKind, since: int, until: int | None, by: str | None
) -> None:
    event = replace(EVENT, event=kind, since=since, until=until, by=by)

    assert decode(event.encode()) == event


@pytest.mark.parametrize(
    "change",
    [{"ts": 9}, {"until": None}, {"level": 9}, {"attempt_id": None}, {"reason": "x"}, {"by": "x"}],
)
def test_id_ignores_all_but_subject_rule_event_and_since(change: dict[str, Any]) -> None:
    assert replace(EVENT, **change).id == EVENT.id


@pytest.mark.parametrize(
    "change",
    [
        {"subject_type": "ip"},
        {"subject": "bob"},
        {"rule": "other"},
        {"event": EventKind.EXPIRED},
        {"since": 2},
    ],
)
def test_id_differs_with_subject_rule_event_or_since(change: dict[str, Any]) -> None:
    assert replace(EVENT, **change).id != EVENT.id


def test_event_names_its_subject() -> None:
    assert EVENT.about == Subject("user", "alice")


@pytest.mark.parametrize(
    "value", [b"", b"{}", b"[]", b"null", b"1", b'"text"', b'{"v":2}', b'{"v":1,"id":"x"}']
)
def test_what_is_no_event_is_refused(value: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        decode(value)
