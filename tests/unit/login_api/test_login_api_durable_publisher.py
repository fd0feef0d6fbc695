"""Where records go while Kafka, Postgres, both or neither take them; with both in memory."""

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from prometheus_client import Counter

from login_api.durable_publisher import NOTICED_WITHIN_S, DurablePublisher
from login_api.errors import PartUnavailableError
from login_api.metrics import Metrics
from login_api.outbox import Drain, Undelivered
from login_api.record_publisher import Fate
from login_api.records import Record
from tests.support.outbox import InMemoryKafka, InMemoryOutbox
from tests.support.waiting import eventually

SETTLE_S = 0.05


class Process:
    """What one process of the Login API publishes with."""

    def __init__(self, kafka: InMemoryKafka, outbox: InMemoryOutbox) -> None:
        self.metrics = Metrics()
        self.publisher = DurablePublisher(
            kafka, outbox, self.metrics, settle_s=SETTLE_S, patience_s=5
        )

    def counted(self, counter: Counter) -> float:
        return next(iter(counter.collect())).samples[0].value


@contextmanager
def running(kafka: InMemoryKafka, outbox: InMemoryOutbox) -> Iterator[Process]:
    process = Process(kafka, outbox)
    try:
        yield process
    finally:
        process.publisher.close()


def a_record(number: int, key: str = "alice") -> Record:
    return Record("login-attempts", key.encode(), f"{key} {number}".encode(), number)


def test_while_kafka_answers_records_go_straight_to_it() -> None:
    kafka, outbox = InMemoryKafka(), InMemoryOutbox()
    sent = [a_record(number) for number in range(10)]
    with running(kafka, outbox) as process:
        for record in sent:
            process.publisher.publish(record)
        assert kafka.topic == sent
    assert process.counted(process.metrics.outbox_kept) == 0


def test_a_record_that_kafka_does_not_take_is_kept_and_published_once_it_answers() -> None:
    kafka, outbox = InMemoryKafka(), InMemoryOutbox()
    kafka.answer = Fate.UNCERTAIN
    with running(kafka, outbox) as process:
        process.publisher.publish(a_record(1))
        process.publisher.publish(a_record(2))
        assert len(kafka.calls) == 1  # the second does not wait for what is known to fail
        eventually(lambda: process.publisher.waiting() == 2)
        assert not outbox.is_open()
        kafka.answer = Fate.PUBLISHED
        eventually(outbox.is_open)
        process.publisher.publish(a_record(3))
    assert kafka.topic == [a_record(1), a_record(2), a_record(3)]
    assert process.counted(process.metrics.outbox_kept) == 2
    assert process.counted(process.metrics.outbox_published) == 2
    assert outbox.length() == 0


def test_what_kafka_held_already_is_not_published_again() -> None:
    kafka, outbox = InMemoryKafka(), InMemoryOutbox()
    kafka.topic.append(a_record(1))
    outbox.append([Undelivered(a_record(1), uncertain=True)], closing=True)
    outbox.append([Undelivered(a_record(1), uncertain=True)], closing=True)
    outbox.append([Undelivered(a_record(2), uncertain=False)] * 2, closing=True)
    with running(kafka, outbox) as process:
        eventually(outbox.is_open)
        assert kafka.topic == [a_record(1), a_record(2)]
        assert process.counted(process.metrics.outbox_found) == 1


def test_a_drainer_that_dies_between_ack_and_removal_leaves_nothing_to_be_sent_twice() -> None:
    class Crash(BaseException):
        """Unlike an Exception it ends the thread, as a kill ends the process."""

    class Dying(InMemoryOutbox):
        def remove(self, seqs: Sequence[int]) -> None:
            if seqs and not died.is_set():
                died.set()
                raise Crash
            super().remove(seqs)

    kafka, outbox, died = InMemoryKafka(), Dying(), threading.Event()
    outbox.append([Undelivered(a_record(n), uncertain=False) for n in range(9)], closing=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading, "excepthook", lambda _: None)
        with running(kafka, outbox):
            assert died.wait(20)
    assert kafka.topic == [a_record(number) for number in range(9)]
    with running(kafka, outbox) as process:
        eventually(outbox.is_open)
        assert process.counted(process.metrics.outbox_found) == 9
    assert kafka.topic == [a_record(number) for number in range(9)]


def test_a_record_that_kafka_refuses_is_put_aside_and_costs_no_other() -> None:
    kafka, outbox = InMemoryKafka(), InMemoryOutbox()
    kafka.poison.add(a_record(3))
    outbox.append([Undelivered(a_record(n), uncertain=False) for n in range(6)], closing=True)
    with running(kafka, outbox) as process:
        eventually(outbox.is_open)
        assert process.counted(process.metrics.outbox_refused) == 1
        with pytest.raises(PartUnavailableError, match="kafka"):
            process.publisher.publish(a_record(3))
    assert outbox.refused == [a_record(3)]
    assert sorted(record.ts for record in kafka.topic) == [0, 1, 2, 4, 5]


def test_nobody_is_held_while_kafka_is_searched() -> None:
    held = threading.Event()

    class WatchedOutbox(InMemoryOutbox):
        @contextmanager
        def appenders_held(self) -> Iterator[None]:
            with super().appenders_held():
                held.set()
                yield
                held.clear()

    class WatchedKafka(InMemoryKafka):
        searched_while_held = False

        def held(self, records: Sequence[Record]) -> set[Record]:
            self.searched_while_held |= held.is_set()
            return super().held(records)

    kafka, outbox = WatchedKafka(), WatchedOutbox()
    kafka.answer = Fate.UNCERTAIN
    with running(kafka, outbox) as process:
        process.publisher.publish(a_record(1))
        kafka.answer = Fate.PUBLISHED
        eventually(lambda: kafka.topic == [a_record(1)])
        eventually(outbox.is_open)
    assert not kafka.searched_while_held


def test_refusals_leave_room_for_passwords_that_were_looked_at() -> None:
    going_on = threading.Event()

    class SlowKafka(InMemoryKafka):
        def publish_all(self, records: Sequence[Record]) -> list[Fate]:
            going_on.wait()
            return super().publish_all(records)

    metrics = Metrics()
    publisher = DurablePublisher(SlowKafka(), InMemoryOutbox(), metrics, settle_s=SETTLE_S)
    try:
        for number in range(12_000):
            publisher.publish_soon(a_record(number))
        assert b"records_lost_total 0.0" not in metrics.exposition()
        threading.Timer(0.05, going_on.set).start()
        publisher.publish(a_record(12_001))  # taken, and told
    finally:
        going_on.set()
        publisher.close()


def test_without_postgres_records_go_to_kafka() -> None:
    kafka, outbox = InMemoryKafka(), InMemoryOutbox()
    with running(kafka, outbox) as process:
        process.publisher.publish(a_record(1))
        outbox.down = True
        process.publisher.publish(a_record(2))
        process.publisher.publish_soon(a_record(3))
        eventually(lambda: len(kafka.topic) == 3)


def test_without_both_it_is_said_and_afterwards_kafka_alone_is_enough() -> None:
    kafka, outbox = InMemoryKafka(), InMemoryOutbox()
    with running(kafka, outbox) as process:
        process.publisher.publish(a_record(1))
        kafka.answer, outbox.down = Fate.UNSENT, True
        with pytest.raises(PartUnavailableError, match="kafka"):
            process.publisher.publish(a_record(2))
        kafka.answer = Fate.PUBLISHED
        process.publisher.publish(a_record(3))
    assert kafka.topic == [a_record(1), a_record(3)]


def test_who_did_not_wait_is_tried_again_until_postgres_answers() -> None:
    kafka, outbox = InMemoryKafka(), InMemoryOutbox()
    with running(kafka, outbox) as process:
        process.publisher.publish(a_record(1))
        kafka.answer, outbox.down = Fate.UNCERTAIN, True
        process.publisher.publish_soon(a_record(2))
        retried = process.metrics.background_failures.labels("publisher")
        eventually(lambda: retried.collect()[0].samples[0].value > 0)  # type: ignore[index]
        outbox.down = False
        eventually(lambda: outbox.length() == 1)
        kafka.answer = Fate.PUBLISHED
        eventually(outbox.is_open)
        assert process.counted(process.metrics.records_lost) == 0
    assert kafka.topic == [a_record(1), a_record(2)]


def test_what_neither_took_until_the_end_is_counted_lost() -> None:
    kafka, outbox = InMemoryKafka(), InMemoryOutbox()
    with running(kafka, outbox) as process:
        process.publisher.publish(a_record(1))
        kafka.answer, outbox.down = Fate.UNSENT, True
        process.publisher.publish_soon(a_record(2))
    assert process.counted(process.metrics.records_lost) == 1


def test_what_was_taken_is_delivered_before_the_end_and_nothing_after_it() -> None:
    kafka, outbox = InMemoryKafka(), InMemoryOutbox()
    with running(kafka, outbox) as process:
        for number in range(2_000):
            process.publisher.publish_soon(a_record(number))
    assert kafka.topic == [a_record(number) for number in range(2_000)]
    with pytest.raises(PartUnavailableError, match="kafka"):
        process.publisher.publish(a_record(2_001))
    process.publisher.publish_soon(a_record(2_002))
    assert process.counted(process.metrics.records_lost) == 1


def test_those_who_come_together_go_together_and_in_their_order() -> None:
    class Slow(InMemoryKafka):
        def publish_all(self, records: Sequence[Record]) -> list[Fate]:
            began.set()
            assert go_on.wait(10)
            return super().publish_all(records)

    kafka, outbox, began, go_on = Slow(), InMemoryOutbox(), threading.Event(), threading.Event()
    with running(kafka, outbox) as process, ThreadPoolExecutor(1) as client:
        first = client.submit(process.publisher.publish, a_record(0))
        assert began.wait(10)
        for number in range(1, 100):
            process.publisher.publish_soon(a_record(number))
        go_on.set()
        first.result(10)
        eventually(lambda: len(kafka.topic) == 100)
    assert [len(call) for call in kafka.calls] == [1, 99]
    assert kafka.topic == [a_record(number) for number in range(100)]


def test_nobody_hears_that_a_record_is_safe_before_all_know_that_the_gate_is_closed() -> None:
    outbox, reached, cut_off = InMemoryOutbox(), InMemoryKafka(), InMemoryKafka()
    with running(cut_off, outbox) as one, running(reached, outbox) as other:
        one.publisher.publish(a_record(0))
        other.publisher.publish(a_record(0))
        cut_off.answer = Fate.UNSENT
        began = time.monotonic()
        one.publisher.publish(a_record(1))
        assert time.monotonic() - began >= NOTICED_WITHIN_S - 0.05
        assert not other.publisher.gate.open or outbox.is_open()


def test_no_record_of_one_process_overtakes_an_earlier_one_of_another() -> None:
    """One cannot reach Kafka and the other can, and drains: they take turns all the time."""
    outbox, topic = InMemoryOutbox(), InMemoryKafka()

    class Flickering(InMemoryKafka):
        def publish_all(self, records: Sequence[Record]) -> list[Fate]:
            turns.append(0)
            return (
                [Fate.UNSENT] * len(records) if len(turns) % 5 == 4 else topic.publish_all(records)
            )

    turns: list[int] = []
    with running(Flickering(), outbox) as one, running(topic, outbox) as other:
        for number in range(0, 60, 2):
            one.publisher.publish(a_record(number))
            other.publisher.publish(a_record(number + 1))
        eventually(outbox.is_open)
    assert [record.ts for record in topic.topic] == list(range(60))
    assert one.counted(one.metrics.outbox_kept) > 0


def test_a_surprise_in_a_background_thread_is_counted_and_ends_nothing() -> None:
    class Surprising(InMemoryOutbox):
        def is_open(self) -> bool:
            asked.append(1)
            if len(asked) < 3:
                raise RuntimeError("surprise")
            return super().is_open()

        @contextmanager
        def draining(self) -> Iterator[Drain | None]:
            drained.append(1)
            if len(drained) < 2:
                raise RuntimeError("surprise")
            with super().draining() as drain:
                yield drain

    asked: list[int] = []
    drained: list[int] = []
    kafka, outbox = InMemoryKafka(), Surprising()
    outbox.append([Undelivered(a_record(1), uncertain=False)], closing=True)
    with running(kafka, outbox) as process:
        eventually(lambda: kafka.topic == [a_record(1)])
        unexpected = process.metrics.background_failures.labels("unexpected")
        assert unexpected.collect()[0].samples[0].value >= 3  # type: ignore[index]
