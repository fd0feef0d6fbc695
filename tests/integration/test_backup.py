import uuid
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from tests.support.services import KafkaServer
from tools import backup
from tools.backup import BackupError
from tools.stack import topics
from tools.stack.layout import Ports, Secrets, Stack

RECORDS = [
    (0, b"alice", b'{"a":1}', 1_795_500_000_000),
    (0, b"alice", None, 1_795_500_000_001),
    (2, None, "ä".encode("latin-1"), 1_795_500_000_002),
    (1, b"bob", b"", 1_795_500_000_003),
]


@pytest.mark.service
def test_topic_comes_back_byte_for_byte_in_its_partitions_order_and_time(
    kafka_server: KafkaServer, tmp_path: Path
) -> None:
    stack = Stack(tmp_path, Ports(kafka=kafka_server.port), Secrets.generate())
    before, after = (f"backup-{uuid.uuid4().hex[:8]}" for _ in range(2))
    topics.create_topics(stack.kafka_bootstrap, {before: {}, after: {}}, partitions=4)
    producer = KafkaProducer(bootstrap_servers=stack.kafka_bootstrap)
    for partition, key, value, ts in RECORDS:
        producer.send(before, value, key, partition=partition, timestamp_ms=ts).get(30)
    producer.close()

    assert backup._read_topic(stack, before, tmp_path / "records") == len(RECORDS)
    assert backup._write_topic(stack, after, tmp_path / "records") == len(RECORDS)

    assert _held(stack, after) == sorted(RECORDS, key=lambda record: record[0])


def test_folder_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="is there already"):
        backup.restore(tmp_path, tmp_path, Ports())
    assert not list(tmp_path.iterdir())


def _held(stack: Stack, topic: str) -> list[tuple[int, bytes | None, bytes | None, int]]:
    consumer = KafkaConsumer(bootstrap_servers=stack.kafka_bootstrap)
    try:
        partitions = [TopicPartition(topic, number) for number in range(4)]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        held = []
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            for records in consumer.poll(timeout_ms=1_000).values():
                held += [(r.partition, r.key, r.value, r.timestamp) for r in records]
    finally:
        consumer.close()
    return sorted(held, key=lambda record: record[0])
