import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocked_client.event_stream import Event, EventStreamParser, MalformedStreamError

ENDS = ["\n", "\r", "\r\n"]

texts = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20)
lines = st.one_of(
    texts,
    st.builds(lambda text: f": {text}", texts),
    st.builds(lambda text: f"data: {text}", texts),
    st.builds(lambda text: f"event:{text}", texts),
    st.builds(lambda text: f"id: {text}", texts),
    st.builds(lambda number: f"retry: {number}", st.integers(0, 10_000)),
    st.just(""),
)


def parsed(*chunks: bytes, largest: int = 10_000) -> list[Event]:
    parser = EventStreamParser(largest)
    return [event for chunk in chunks for event in parser.feed(chunk)]


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[start:end] for start, end in pairwise(edges)]


@given(st.lists(st.tuples(lines, st.sampled_from(ENDS))), st.lists(st.integers(min_value=0)))
def test_where_the_chunks_are_cut_changes_nothing(
    written: list[tuple[str, str]], places: list[int]
) -> None:
    stream = "".join(line + end for line, end in written).encode()
    whole = parsed(stream)
    assert parsed(*cut(stream, places)) == whole
    assert parsed(*(stream[i : i + 1] for i in range(len(stream)))) == whole


@given(
    st.lists(
        st.builds(
            Event,
            type=texts.filter(bool),
            data=st.lists(texts, min_size=1, max_size=3).map("\n".join),
            id=texts.filter(lambda text: "\0" not in text),
        )
    ),
    st.sampled_from(ENDS),
    st.lists(st.integers(min_value=0)),
)
def test_what_is_written_is_read(events: list[Event], end: str, places: list[int]) -> None:
    stream = ""
    for event in events:
        data = [f"data: {line}" for line in event.data.split("\n")]
        stream += end.join([f"id: {event.id}", f"event: {event.type}", *data, ": alive", "", ""])
    assert parsed(*cut(stream.encode(), places)) == events


def test_the_documented_stream() -> None:
    stream = (
        b'retry: 1000\nevent: status\ndata: {"status":"complete","redis":"ok"}\n\n'
        b': alive\n\nid: 7-3\nevent: change\ndata: {"version":"7-3"}\n\n'
    )
    parser = EventStreamParser(1_000)
    assert parser.feed(stream) == [
        Event("status", '{"status":"complete","redis":"ok"}', ""),
        Event("change", '{"version":"7-3"}', "7-3"),
    ]
    assert parser.retry_ms == 1_000


def test_an_id_stays_until_another_is_told_and_a_type_does_not() -> None:
    assert parsed(b"id: 1\nevent: a\ndata: x\n\ndata: y\n\n") == [
        Event("a", "x", "1"),
        Event("message", "y", "1"),
    ]


def test_an_event_without_its_blank_line_is_none() -> None:
    assert parsed(b"event: change\ndata: half") == []
    assert parsed(b"event: change\n\n") == []


def test_a_byte_order_mark_is_no_part_of_the_first_field() -> None:
    assert parsed(b"\xef", b"\xbb\xbfdata: x\n\n") == [Event("message", "x", "")]


@pytest.mark.parametrize("ending", [b"", b"\n\n"])
def test_bytes_that_are_no_utf8_are_an_error_and_no_other_name(ending: bytes) -> None:
    with pytest.raises(MalformedStreamError, match="UTF-8"):
        parsed(b"data: \xff\n" + ending)


def test_what_is_held_back_for_an_event_is_bounded() -> None:
    line = b"data: " + b"x" * 86 + b"\n\n"  # 94 bytes
    assert len(parsed(line, largest=94)) == 1
    for endless in (line[:-2] + b"xx", b"data:\n" * 20, b"event: x\n" * 20):
        with pytest.raises(MalformedStreamError, match="too long"):
            parsed(endless, largest=93)
    assert parsed(*[b": alive\n\n"] * 100, *[b": alive\n"] * 100, largest=93) == []


def test_a_long_event_in_small_chunks_costs_no_square() -> None:
    stream = b"data: " + random.Random(1).randbytes(1_000_000).hex().encode() + b"\n\n"
    chunks = [stream[i : i + 256] for i in range(0, len(stream), 256)]
    (event,) = parsed(*chunks, largest=len(stream))
    assert len(event.data) == 2_000_000


def test_an_id_counts_once_its_event_has_ended_with_data_or_without() -> None:
    parser = EventStreamParser(1_000)
    assert parser.feed(b": alive\nid: 7\n") == []
    assert parser.last_id == ""
    assert parser.feed(b"\n") == []
    assert parser.last_id == "7"
    parser.feed(b"data: x\n\n")
    assert parser.last_id == "7"
