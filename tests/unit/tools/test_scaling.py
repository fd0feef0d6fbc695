import pytest

from tools import scaling
from tools.scaling import Costs, next_divisor, size
from tools.stack.layout import MAX_PARALLELISM


def test_document_holds_the_table_that_is_printed() -> None:
    text = scaling.DOCUMENT.read_text(encoding="utf-8")
    printed = text.partition(scaling.BEGIN)[2].partition(scaling.END)[0].strip()
    assert printed == scaling.shipped_table()


def test_first_column_by_hand() -> None:
    small = size(10_000, 10_000_000)
    # 10,000/s times 2 by 20,000/s = 1 task of heap; 8.4 M subjects, 2 rules, 1.6 KB: 27 GB are
    # too much for it, and RocksDB's rate wants a second one.
    assert (small.subjects, small.backend, small.parallelism) == (8_400_000, "RocksDB", 2)
    assert small.hash_cores == 310
    # 10,000/s times 300 us; times 440 us on 2 cores each
    assert (small.refusal_cores, small.blocked_replicas) == (3, 3)
    # 10,000/s times 230 bytes times 7 days times 3 replicas
    assert small.kafka_tb == pytest.approx(4.173, abs=0.001)


def test_memory_is_that_of_the_spare_task_manager_too() -> None:
    """By hand, as docs/scaling.md does: 10 tasks with 20 M subjects, 2 rules, 1.6 KB."""
    it = size(100_000, 10_000_000)
    assert (it.parallelism, it.task_managers) == (10, 11)
    assert it.memory_gb == pytest.approx(11 * (1.2 + 2 * 6.4))
    words = " ".join(scaling.DOCUMENT.read_text(encoding="utf-8").split())
    assert "So 11 of 14 GB, 154 GB in all." in words


def test_accounts_bound_the_state_and_failures_do_too() -> None:
    assert size(100_000, 10_000_000).subjects == 20_000_000
    assert size(10_000, 1_000_000_000).subjects == size(10_000, 100_000_000).subjects


@pytest.mark.parametrize(
    ("tasks", "parallelism"), [(1, 1), (7, 8), (11, 12), (100, 120), (720, 720)]
)
def test_parallelism_shares_the_key_groups_out_evenly(tasks: int, parallelism: int) -> None:
    assert next_divisor(tasks) == parallelism
    assert MAX_PARALLELISM % parallelism == 0


def test_more_tasks_than_key_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="720 key groups"):
        next_divisor(MAX_PARALLELISM + 1)


def test_partitions_are_a_multiple_of_the_parallelism() -> None:
    for rate in (1_000, 30_000, 60_000, 90_000, 500_000):
        it = size(rate, 10_000_000)
        assert it.partitions % it.parallelism == 0
        assert it.partitions >= 8


def test_a_dearer_part_makes_its_row_larger_and_no_other() -> None:
    plain, dear = size(100_000, 10_000_000), size(100_000, 10_000_000, Costs(hash_s=0.062))
    assert dear.hash_cores == 2 * plain.hash_cores
    assert dear.parallelism == plain.parallelism


@pytest.mark.parametrize("rate", ["-5", "0", "1.5", "abc"])
def test_rate_that_is_no_number_above_zero_is_refused(
    rate: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["scaling", f"--rate={rate}"])
    with pytest.raises(SystemExit):
        scaling.main()
    assert f"{rate} is no whole number above 0" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--accounts=5", "--failing=0.5"])
def test_what_is_reckoned_for_a_rate_wants_one(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["scaling", option])
    with pytest.raises(SystemExit):
        scaling.main()
    assert "--rate is missing" in capsys.readouterr().err
