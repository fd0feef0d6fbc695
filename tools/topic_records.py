"""All records that a topic holds now, as one pass that ends or says why not."""

import time
from collections.abc import Iterator
from typing import Any, Final

from kafka import KafkaConsumer
from kafka.errors import KafkaTimeoutError

from login_api.kafka_clients import client_arguments, partitions_of
from login_blocking.kafka_access import KafkaAccess

_CONNECT_WITHIN_MS: Final = 10_000
_SILENCE_S: Final = 60.0


def records_of(access: KafkaAccess, topic: str, silence_s: float = _SILENCE_S) -> Iterator[Any]:
    """Kafka-python's records, in a partition's order; those that come meanwhile are left out.

    Raises KafkaError, also when none comes for `silence_s` although there are more.
    """
    consumer = KafkaConsumer(
        **client_arguments(access),
        bootstrap_timeout_ms=_CONNECT_WITHIN_MS,
        # Of what expires while it is read the rest is wanted, not nothing.
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    try:
        partitions = partitions_of(consumer, topic)
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        heard = time.monotonic()
        while any(consumer.position(partition) < end for partition, end in ends.items()):
            batches = consumer.poll(timeout_ms=1_000)
            if batches:
                heard = time.monotonic()
            elif time.monotonic() - heard > silence_s:
                raise KafkaTimeoutError(f"topic {topic}: no record came for {silence_s:.0f} s")
            for partition, records in batches.items():
                yield from (it for it in records if it.offset < ends[partition])
    finally:
        consumer.close()
