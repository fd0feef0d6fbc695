"""The way to Kafka with no broker; with one: tests/contract."""

import threading

import pytest

from login_api import record_publisher
from login_api.record_publisher import KafkaRecordPublisher
from login_blocking.kafka_access import KafkaAccess


def test_whatever_happens_on_the_way_to_kafka_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else attempts would wait in the outbox until somebody restarts the process."""
    asked, again = [], threading.Event()

    def listening(access: KafkaAccess) -> bool:
        asked.append(access)
        if len(asked) == 1:
            raise RuntimeError("a fault of the client")
        again.set()
        return False

    monkeypatch.setattr(record_publisher, "listening", listening)
    monkeypatch.setattr(record_publisher, "_RECONNECT_AFTER_S", 0.01)
    publisher = KafkaRecordPublisher(KafkaAccess("nowhere:1"), 10)
    try:
        assert again.wait(10)
    finally:
        publisher.close()
