import uuid
from pathlib import Path

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.errors import KafkaTimeoutError, UnknownTopicOrPartitionError

from login_api.topics import admin_of
from login_blocking.kafka_access import KafkaAccess
from tests.support.services import KafkaServer
from tools import backup
from tools.backup import BackupError
from tools.stack import topics
from tools.stack.layout import Ports, Secrets, Stack
from tools.topic_records import records_of

RECORDS = [
    (0, b"alice", b'{"a":1}', 1_795_500_000_000, []),
    (0, b"alice", None, 1_795_500_000_001, []),
    (2, None, "ä".encode("latin-1"), 1_795_500_000_002, [("reason", "ü".encode())]),
    (1, b"bob", b"", 1_795_500_000_003, []),
]


@pytest.mark.service
@pytest.mark.parametrize("expired", [0, 1])
def test_topic_comes_back_byte_for_byte_at_its_offsets_and_with_its_time(
    kafka_server: KafkaServer, tmp_path: Path, expired: int
) -> None:
    """A savepoint says at which offset the job goes on: one too far, and an attempt is lost."""
    stack = Stack(tmp_path, Ports(kafka=kafka_server.port), Secrets.generate())
    before, after = (f"backup-{uuid.uuid4().hex[:8]}" for _ in range(2))
    topics.create_topics(stack.kafka_bootstrap, {before: {}, after: {}}, partitions=4)
    producer = KafkaProducer(bootstrap_servers=stack.kafka_bootstrap)
    for partition, key, value, ts, headers in RECORDS:
        sent = producer.send(
            before, value, key, partition=partition, timestamp_ms=ts, headers=headers
        )
        sent.get(30)
    producer.close()
    if expired:
        with admin_of(KafkaAccess(stack.kafka_bootstrap)) as admin:
            admin.delete_records({TopicPartition(before, 0): expired})
    held = _held(stack, before)
    assert len(held) == len(RECORDS) - expired

    assert backup._read_topic(stack, before, tmp_path / "records") == len(held)
    assert backup._write_topic(stack, after, tmp_path / "records") == len(held)

    assert _held(stack, after) == held


@pytest.mark.service
def test_topic_that_is_not_there_or_falls_silent_is_told(kafka_server: KafkaServer) -> None:
    access = KafkaAccess(f"127.0.0.1:{kafka_server.port}")
    with pytest.raises(UnknownTopicOrPartitionError):
        list(records_of(access, f"none-{uuid.uuid4().hex[:8]}"))

    topic = f"silent-{uuid.uuid4().hex[:8]}"
    topics.create_topics(access.bootstrap, {topic: {}}, partitions=1)
    producer = KafkaProducer(bootstrap_servers=access.bootstrap)
    for _ in range(40):  # more than are fetched at once
        producer.send(topic, b"x" * 500_000)
    producer.close()
    records = records_of(access, topic, silence_s=0)
    next(records)
    topics.delete_topics(access.bootstrap, [topic])
    with pytest.raises(KafkaTimeoutError, match="no record came"):
        list(records)


def test_folder_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="is there already"):
        backup.restore(tmp_path, tmp_path, Ports())
    assert not list(tmp_path.iterdir())


def test_restore_that_fails_leaves_no_half_of_a_stack(
    tmp_path: Path,
) -> None:
    copy, stack = tmp_path / "copy", tmp_path / "stack"
    copy.mkdir()
    (copy / "secrets.json").write_text("{}")

    with pytest.raises(FileNotFoundError):
        backup.restore(copy, stack, Ports())

    assert not stack.exists()


def _held(stack: Stack, topic: str) -> list[tuple[object, ...]]:
    records = records_of(KafkaAccess(stack.kafka_bootstrap), topic)
    held = [(r.partition, r.offset, r.key, r.value, r.timestamp, r.headers) for r in records]
    return sorted(held, key=lambda record: record[:2])
