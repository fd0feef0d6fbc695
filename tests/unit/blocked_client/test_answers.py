import json
import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocked_client.answers import MalformedAnswerError, ToldBlock, read_changes, read_status
from login_blocking.subjects import Subject

ALICE: dict[str, Any] = {
    "subject_type": "user",
    "subject": "alice",
    "blocked_until": "2026-11-24T02:40:31.265Z",
    "rule": "user-failures",
    "since": "2026-11-24T02:25:31.265Z",
    "level": 1,
}


def document(**given: object) -> str:
    told = {"version": "1-2", "full": False, "added": [], "changed": [], "removed": []}
    return json.dumps({**told, **given})


def test_the_documented_changes() -> None:
    network = {"subject_type": "ip", "subject": "2001:db8::/64", "blocked_until": None}
    changes = read_changes(
        document(
            added=[ALICE],
            changed=[{**network, "rule": "operator", "since": "…", "level": 2}],
            removed=[{"subject_type": "user", "subject": "bob"}],
        )
    )
    assert changes.version == "1-2"
    assert not changes.full
    assert changes.blocked == [
        ToldBlock("user", "alice", 1_795_488_031.265, "user-failures"),
        ToldBlock("ip", "2001:db8::/64", math.inf, "operator"),
    ]
    assert changes.removed == [Subject("user", "bob")]


@pytest.mark.parametrize(
    "malformed",
    [
        "",
        "[]",
        "null",
        "[" * 100_000,
        "9" * 5_000,
        document(version=None),
        document(version=""),
        document(version="1\r\nX: y"),
        document(version="é"),
        document(version="1" * 513),
        document(full="yes"),
        document(full=True, removed=[{"subject_type": "user", "subject": "bob"}]),
        document(added={}),
        document(added=["alice"]),
        document(added=[{**ALICE, "subject_type": "host"}]),
        document(added=[{**ALICE, "subject_type": ["user"]}]),
        document(added=[{**ALICE, "subject": 7}]),
        document(added=[{**ALICE, "rule": None}]),
        document(added=[{**ALICE, "blocked_until": "soon"}]),
        document(added=[{**ALICE, "blocked_until": 1_795_488_031_265}]),
        document(added=[{**ALICE, "blocked_until": "2026-11-24T02:40:31"}]),
        document(changed=[{"subject_type": "user", "subject": "alice"}]),
        document(removed=[{"subject_type": "user"}]),
        document(removed="bob"),
        document(version={"subject_type": "user", "subject": "bob"}),
        json.dumps([ALICE]),
        json.dumps(ALICE),
        json.dumps({"version": "1-2", "full": False, "added": [], "removed": []}),
    ],
)
def test_another_form_is_an_error_that_quotes_nothing(malformed: str) -> None:
    with pytest.raises(MalformedAnswerError) as refused:
        read_changes(malformed)
    assert "alice" not in str(refused.value)


@given(st.recursive(st.none() | st.text() | st.integers(), lambda c: st.lists(c) | st.dictionaries(
    st.sampled_from(["version", "full", "added", "changed", "removed", "subject", "status"]), c
)))  # fmt: skip
def test_no_document_is_any_other_error(anything: object) -> None:
    for read in (read_changes, read_status):
        with suppress(MalformedAnswerError):
            read(json.dumps(anything))


@pytest.mark.parametrize("until", ["9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-14:00"])
def test_an_end_that_has_no_date_in_utc_is_for_ever(until: str) -> None:
    (block,) = read_changes(document(added=[{**ALICE, "blocked_until": until}])).blocked
    assert block.ends_at_s == math.inf


def test_without_redis_nothing_new_is_heard() -> None:
    assert read_status('{"status":"complete","redis":"ok"}') == "complete"
    assert read_status('{"status":"refilling","redis":"ok"}') == "refilling"
    assert read_status('{"status":"complete","redis":"down"}') == "stale"
    for other in ('{"status":"fine","redis":"ok"}', '{"status":["complete"]}', "{}"):
        with pytest.raises(MalformedAnswerError):
            read_status(other)
