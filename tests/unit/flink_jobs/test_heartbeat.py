import pytest

from flink_jobs.heartbeat import Seconds, lag_ms

NOW = 1_795_500_000_000
LONG_MIN = -(2**63)


def test_one_tick_of_each_second_begins_it() -> None:
    seconds = Seconds()

    begun = [ms for ms in range(0, 3_000, 200) if seconds.begins(NOW + ms)]

    assert begun == [0, 1_000, 2_000]


def test_second_ends_with_its_last_millisecond() -> None:
    seconds = Seconds()

    assert seconds.begins(NOW + 1)
    assert not seconds.begins(NOW + 999)
    assert seconds.begins(NOW + 1_000)


def test_ticks_that_waited_for_a_pause_to_end_count_as_one() -> None:
    seconds = Seconds()
    seconds.begins(NOW)

    assert [seconds.begins(NOW + 60_000) for _ in range(5)] == [True] + [False] * 4


@pytest.mark.parametrize("watermark", [LONG_MIN, -900, 0])
def test_lag_is_unknown_before_event_time_has_begun(watermark: int) -> None:
    assert lag_ms(NOW, watermark, 1_900) is None


@pytest.mark.parametrize(
    ("watermark", "lag"),
    [
        pytest.param(NOW - 1_899, 0, id="sooner than it must be"),
        pytest.param(NOW - 1_900, 0, id="as far behind as always"),
        pytest.param(NOW - 1_901, 1, id="a millisecond further"),
        pytest.param(NOW - 3_601_900, 3_600_000, id="an hour of backlog"),
    ],
)
def test_lag_is_what_event_time_is_behind_beyond_what_it_always_keeps(
    watermark: int, lag: int
) -> None:
    assert lag_ms(NOW, watermark, 1_900) == lag
