"""Flink's REST that fails a call: a read is asked again, an order never is."""

from collections.abc import Callable

import pytest

from flink_control.rest import FlinkError, FlinkRest
from flink_jobs import preflight
from tests.support.fake_jobmanager import jobmanager

pytestmark = pytest.mark.enable_socket


def test_read_that_flink_failed_at_once_is_asked_again() -> None:
    """Two who read the checkpoints of one job at the same moment make it fail now and then."""
    with jobmanager(500, 500, 200) as flink:
        assert FlinkRest(flink.url).jobs() == []
    assert flink.asked == ["GET", "GET", "GET"]


def test_read_that_flink_goes_on_failing_is_told_in_its_words() -> None:
    with jobmanager(500) as flink, pytest.raises(FlinkError, match="Error: input array") as told:
        FlinkRest(flink.url).jobs()
    assert told.value.status == 500
    assert flink.asked == ["GET", "GET", "GET"]


@pytest.mark.parametrize("status", [404, 503])
def test_read_that_is_refused_is_not_asked_again(status: int) -> None:
    with jobmanager(status, 200) as flink, pytest.raises(FlinkError):
        FlinkRest(flink.url).jobs()
    assert flink.asked == ["GET"]


@pytest.mark.parametrize(
    ("order", "method"),
    [
        (lambda flink: flink.run_jar("jar"), "POST"),
        (lambda flink: flink.cancel("job"), "PATCH"),
        (lambda flink: flink.delete_jar("jar"), "DELETE"),
    ],
)
def test_order_is_given_once(order: Callable[[FlinkRest], object], method: str) -> None:
    with jobmanager(500, 200) as flink, pytest.raises(FlinkError):
        order(FlinkRest(flink.url))
    assert flink.asked == [method]


def test_preflight_asks_again_what_flink_failed_at_once() -> None:
    with jobmanager(500, 500, 200) as flink:
        assert preflight._call(flink.url) == {"jobs": []}
    assert flink.asked == ["GET", "GET", "GET"]


@pytest.mark.parametrize(
    ("status", "body", "asked"),
    [(500, None, ["GET"] * 3), (503, None, ["GET"]), (500, {"drain": False}, ["POST"])],
)
def test_preflight_reads_again_some_times_and_gives_an_order_once(
    status: int, body: dict[str, object] | None, asked: list[str]
) -> None:
    with (
        jobmanager(status) as flink,
        pytest.raises(preflight._UnansweredError, match=f"HTTP Error {status}"),
    ):
        preflight._call(flink.url, body)
    assert flink.asked == asked
