"""Proves that what is no attempt is kept with its reason, costs no good one, and stops nothing.

Malformed records are strewn among recorded attempts; the blocks must be those of the attempts
alone, and every malformed record must stand in the rejected topic, byte for byte.
"""

import argparse
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Final

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from flink_control.rest import FlinkError
from login_blocking.events import EventKind
from tools import replay
from tools.policies import find_policy
from tools.recordings import read_recording
from tools.stack import layout, live, topics
from tools.stack.layout import NoStackError, Stack

_GOOD: Final = (
    b'{"v":1,"id":"00000000-0000-0000-0000-000000000000","ts":1795500000000,"user":"u",'
    b'"ip":null,"outcome":"failure"}'
)
MALFORMED: Final = (
    b"", b"{", b"null", b"[1]", b"\xff\xfe\x00", b"42", b'"text"', b"{}", _GOOD[:-1],
    _GOOD.replace(b'"v":1', b'"v":2'), _GOOD.replace(b'"v":1', b'"v":"1"'),
    _GOOD.replace(b'"ts":1795500000000', b'"ts":"1795500000000"'),
    _GOOD.replace(b'"ts":1795500000000', b'"ts":1.5'), _GOOD.replace(b'"ts":1795500000000,', b""),
    _GOOD.replace(b'"u"', b"5"), _GOOD.replace(b'"u"', b'""'), _GOOD.replace(b'"u"', b"null"),
    _GOOD.replace(b'"u"', b'"a\xffb"'), _GOOD.replace(b"failure", b"maybe"),
    _GOOD.replace(b'"ip":null', b'"ip":[]'), _GOOD.replace(b'"id":"0', b'"id":0,"x":"'),
)  # fmt: skip


def main() -> int:
    """Runs the command line: 0 if everything is as it must be."""
    parser = argparse.ArgumentParser(prog="tools.verify_rejected", description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("expected", type=Path, help="the blocks of the attempts alone")
    parser.add_argument("--policy", default="seed")
    parser.add_argument("--malformed", type=int, default=10_000)
    parser.add_argument("--state-dir", type=Path, default=layout.DEFAULT_STATE_DIR)
    arguments = parser.parse_args()
    try:
        stack = live.load(arguments.state_dir)
        return _verify(stack, arguments)
    except (NoStackError, FlinkError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _verify(stack: Stack, arguments: argparse.Namespace) -> int:
    attempts = read_recording(arguments.data)
    names = replay.Names.fresh()
    rejected = f"{names.job}-rejected"
    chosen = random.Random(1).choices(MALFORMED, k=arguments.malformed)  # noqa: S311 — no secret
    wanted = {name: {"retention.ms": "-1"} for name in [*names.topics, rejected]}
    topics.create_topics(stack.kafka_bootstrap, wanted, partitions=1)
    try:
        producer = KafkaProducer(
            bootstrap_servers=stack.kafka_bootstrap, acks="all", linger_ms=20, batch_size=262_144
        )
        every = max(1, len(attempts) // max(1, len(chosen)))
        left = list(chosen)
        for number, attempt in enumerate(attempts):
            producer.send(
                names.attempts, key=attempt.key(), value=attempt.encode(), timestamp_ms=attempt.ts
            )
            if number % every == 0 and left:
                stray = left.pop()
                producer.send(names.attempts, key=b"k", value=stray, timestamp_ms=attempt.ts)
        for stray in left:
            producer.send(names.attempts, key=b"k", value=stray, timestamp_ms=attempts[-1].ts)
        producer.flush(timeout=120)
        producer.close(timeout=5)
        text = find_policy(arguments.policy).read_text(encoding="utf-8")
        settings = replay.job_settings(names, text, attempts) | {"rejected_topic": rejected}
        with replay.progress_bar() as progress:
            replay.run_job(stack, settings, len(attempts) + len(chosen), progress)
        events = replay.read_events(stack, names.events)
        kept = _records(stack, rejected)
    finally:
        replay.clean_up(stack, names)
        topics.delete_topics(stack.kafka_bootstrap, [rejected])
    blocks = replay.block_lines([e for e in events if e.event is EventKind.BLOCKED])
    equal = blocks == arguments.expected.read_text(encoding="utf-8").splitlines()
    same = Counter(value for value, _ in kept) == Counter(chosen)
    for reason, number in Counter(reason for _, reason in kept).most_common():
        print(f"  {number:6} {reason}")
    print(
        f"{len(attempts):,} attempts, {len(blocks):,} blocks, {'equal' if equal else 'DIFFERENT'}"
    )
    print(
        f"{len(chosen):,} malformed, {len(kept):,} kept, {'the same' if same else 'NOT the same'}"
    )
    return 0 if equal and same and all(reason for _, reason in kept) else 1


def _records(stack: Stack, topic: str) -> list[tuple[bytes, str]]:
    consumer = KafkaConsumer(bootstrap_servers=stack.kafka_bootstrap)
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        end = consumer.end_offsets([partition])[partition]
        found = []
        while consumer.position(partition) < end:
            for records in consumer.poll(timeout_ms=1_000).values():
                found += [(r.value, dict(r.headers)["reason"].decode()) for r in records]
        return found
    finally:
        consumer.close()


if __name__ == "__main__":
    sys.exit(main())
