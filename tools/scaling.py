"""Reckons how large each part must be for a rate of attempts and a number of accounts.

Nothing is measured here: the costs of one attempt, subject, block and so on are (docs/scaling.md
says by which command), and the rest is arithmetic that can be followed line by line.
"""

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.stack.layout import MAX_PARALLELISM, ROOT

DOCUMENT: Final = ROOT / "docs" / "scaling.md"
BEGIN: Final = "<!-- printed by: make scale TABLE=1 -->"
END: Final = "<!-- end -->"
RATES: Final = (10_000, 100_000, 1_000_000)
ACCOUNTS: Final = (10_000_000, 100_000_000)

_DAY_S: Final = 86_400
_GB: Final = 1e9


@dataclass(frozen=True, slots=True)
class Costs:
    """What one of each takes; the first group is measured, the second is chosen."""

    detector_rate: int = 20_000
    """Attempts a second and core, all rules of the default policy, in event-time order."""
    rocksdb_rate: float = 0.92
    """Of the heap's rate."""
    heap_subject: int = 1_600
    """Bytes of heap of a subject that failed lately, a rule: between a rule of failures (1,100) and
    one of distinct others (2,100)."""
    checkpoint_subject: int = 280
    """Bytes of a checkpoint, likewise; RocksDB on disk takes less."""
    hash_s: float = 0.031
    """Core seconds of one password, argon2id with OWASP's minimum."""
    login_us: int = 1_800
    """Core microseconds of a login beside its hash: HTTP, guard, Kafka, Postgres."""
    refused_us: int = 300
    """Core microseconds of a refused login."""
    answer_us: int = 440
    """Core microseconds of a single check by the Blocked API, with 100,000 blocks."""
    redis_us: int = 125
    """Microseconds of Redis' one core for an attempt: admitted and settled."""
    block_bytes: int = 650
    guard_bytes: int = 345
    """Of Redis: a user and an address that failed once, for the ten minutes of the longest rule."""
    place_bytes: int = 150
    kafka_bytes: int = 230
    """Of the log of one replica; alone in its batch."""
    account_bytes: int = 195
    blocks_a_subtask: int = 100_000
    """Live blocks that one subtask reasserts within a minute."""

    failing: float = 0.1
    """Share of attempts that fail in ordinary times."""
    rules_a_subject: int = 2
    """Rules of the default policy that count one failure of a user, and of an address."""
    remembered_s: int = 4_200
    """Ten minutes' window, and an hour above it for late reading."""
    active: float = 0.5
    """Share of accounts that log in within 30 days: only these have known places."""
    blocked: float = 0.001
    """Share of accounts (and as many addresses) that are blocked at once in a bad hour."""
    reserve: float = 2.0
    """How much faster than the rate: to catch up after an outage, and one node may be missing."""
    retention_days: int = 7
    replicas: int = 3
    broker_disk_gb: int = 4_000
    broker_bytes_s: int = 50_000_000
    heap_gb_a_task: int = 8
    """More than that a task: collections last too long, RocksDB is the better choice."""


COSTS: Final = Costs()


@dataclass(frozen=True, slots=True)
class Size:
    """One answer: all parts for a rate and a number of accounts."""

    rate: int
    accounts: int
    parallelism: int
    task_managers: int
    partitions: int
    backend: str
    subjects: int
    memory_gb: float
    checkpoint_gb: float
    hash_cores: int
    login_cores: int
    login_replicas: int
    refusal_cores: int
    blocked_replicas: int
    redis_cells: int
    redis_gb: float
    kafka_tb: float
    brokers: int
    postgres_gb: float
    blocks: int


def size(rate: int, accounts: int, costs: Costs = COSTS) -> Size:
    """The arithmetic, from top to bottom."""
    failures = rate * costs.failing
    # Whoever failed lately is remembered; nobody more, however many accounts there are.
    users = min(failures * costs.remembered_s, accounts)
    subjects = int(2 * users)  # an address each
    heap = subjects * costs.rules_a_subject * costs.heap_subject
    blocks = int(2 * accounts * costs.blocked)

    tasks = math.ceil(rate * costs.reserve / costs.detector_rate)
    tasks = max(tasks, math.ceil(blocks / costs.blocks_a_subtask))
    backend = "heap"
    if heap / tasks > costs.heap_gb_a_task * _GB:
        backend = "RocksDB"
        tasks = max(
            tasks, math.ceil(rate * costs.reserve / costs.detector_rate / costs.rocksdb_rate)
        )
    parallelism = next_divisor(tasks)
    task_managers = parallelism + 1  # the spare one is as large as any, for it takes one's place
    # A task: 1.2 GB for Flink itself and Python; the heap half empty, or RocksDB's cache.
    of_task = 2 * heap / parallelism / _GB if backend == "heap" else 2.0

    hash_cores = math.ceil(rate * costs.hash_s)
    login_cores = math.ceil(rate * costs.login_us / 1e6)
    redis_bytes = blocks * costs.block_bytes + failures * 600 * costs.guard_bytes
    redis_bytes += accounts * costs.active * costs.place_bytes
    log = rate * costs.kafka_bytes * _DAY_S * costs.retention_days * costs.replicas
    flow = rate * costs.kafka_bytes * costs.replicas
    brokers = max(
        costs.replicas,
        math.ceil(log / _GB / (0.7 * costs.broker_disk_gb)),
        math.ceil(flow / costs.broker_bytes_s),
    )
    return Size(
        rate=rate,
        accounts=accounts,
        parallelism=parallelism,
        task_managers=task_managers,
        partitions=parallelism * math.ceil(8 / parallelism),
        backend=backend,
        subjects=subjects,
        memory_gb=task_managers * (1.2 + of_task),
        checkpoint_gb=subjects * costs.rules_a_subject * costs.checkpoint_subject / _GB,
        hash_cores=hash_cores,
        login_cores=login_cores,
        login_replicas=max(2, math.ceil((hash_cores + login_cores) / 8)),
        refusal_cores=math.ceil(rate * costs.refused_us / 1e6),
        blocked_replicas=max(2, math.ceil(rate * costs.answer_us / 1e6 / 2)),
        redis_cells=math.ceil(rate * costs.redis_us / 1e6 / 0.6),
        redis_gb=2 * redis_bytes / _GB,
        kafka_tb=log / 1e12,
        brokers=brokers,
        postgres_gb=accounts * costs.account_bytes / _GB,
        blocks=blocks,
    )


def next_divisor(tasks: int) -> int:
    """The smallest parallelism from `tasks` on that shares the key groups out evenly."""
    for parallelism in range(tasks, MAX_PARALLELISM + 1):
        if MAX_PARALLELISM % parallelism == 0:
            return parallelism
    raise ValueError(f"{tasks} tasks: state is cut into {MAX_PARALLELISM} key groups at most")


def table(sizes: list[Size]) -> str:
    """A column for each answer, in Markdown."""
    rows = {
        "accounts": [f"{it.accounts / 1e6:,.0f} M" for it in sizes],
        "detector: parallelism = slots": [f"{it.parallelism}" for it in sizes],
        "TaskManagers, one slot each, one spare": [f"{it.task_managers}" for it in sizes],
        "partitions of `login-attempts`": [f"{it.partitions}" for it in sizes],
        "subjects in state": [f"{it.subjects / 1e6:,.1f} M" for it in sizes],
        "state backend": [it.backend for it in sizes],
        "memory of all TaskManagers, the spare one too": [
            f"{it.memory_gb:,.0f} GB" for it in sizes
        ],
        "a whole checkpoint": [f"{it.checkpoint_gb:,.1f} GB" for it in sizes],
        "cores for hashes, if every attempt is checked": [f"{it.hash_cores:,}" for it in sizes],
        "cores for the rest of the Login API": [f"{it.login_cores:,}" for it in sizes],
        "Login API replicas of 8 cores": [f"{it.login_replicas:,}" for it in sizes],
        "Login API cores, if every attempt is of somebody blocked": [
            f"{it.refusal_cores:,}" for it in sizes
        ],
        "Blocked API replicas of 2 cores, if it is asked about each attempt": [
            f"{it.blocked_replicas:,}" for it in sizes
        ],
        "Redis primaries (60 % busy)": [f"{it.redis_cells}" for it in sizes],
        "Redis memory, `maxmemory` of all": [f"{it.redis_gb:,.1f} GB" for it in sizes],
        "live blocks in a bad hour": [f"{it.blocks:,}" for it in sizes],
        "Kafka, 7 days, 3 replicas": [f"{it.kafka_tb:,.1f} TB" for it in sizes],
        "brokers with 4 TB": [f"{it.brokers}" for it in sizes],
        "Postgres": [f"{it.postgres_gb:,.0f} GB" for it in sizes],
    }
    head = " | ".join(f"{it.rate:,}/s" for it in sizes)
    lines = [f"| attempts | {head} |", "|---|" + "--:|" * len(sizes)]
    lines += [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]
    return "\n".join(lines)


def shipped_table() -> str:
    """The table that docs/scaling.md holds."""
    return table([size(rate, accounts) for rate in RATES for accounts in ACCOUNTS])


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(prog="tools.scaling", description=__doc__)
    parser.add_argument("--rate", type=_positive, help="attempts a second at the peak")
    parser.add_argument("--accounts", type=_positive, help="10 million if not said")
    parser.add_argument("--failing", type=float, help=f"share that fails, {COSTS.failing}")
    parser.add_argument("--write", action="store_true", help=f"renew the table in {DOCUMENT.name}")
    arguments = parser.parse_args()
    if arguments.rate is None and (arguments.accounts or arguments.failing is not None):
        parser.error("--rate is missing (make scale RATE=attempts/s): without it all is fixed")
    if arguments.write:
        _renew(DOCUMENT)
    if arguments.rate is None:
        print(shipped_table())
        return 0
    try:
        failing = COSTS.failing if arguments.failing is None else arguments.failing
        accounts = arguments.accounts or 10_000_000
        print(table([size(arguments.rate, accounts, Costs(failing=failing))]))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _positive(text: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number above 0")
    return number


def _renew(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    document.write_text(f"{before}{BEGIN}\n{shipped_table()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
