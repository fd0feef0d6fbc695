"""The topics and their settings, and `python -m login_api.topics`, which creates those missing.

Created explicitly: a broker that makes topics up hides a misspelt name. What exists is never
changed; where it differs from what is wanted, this says so, and what to do about it.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, KafkaTimeoutError, TopicAlreadyExistsError, for_code
from pydantic import ValidationError

from login_api.kafka_clients import client_arguments, listening, refusal
from login_api.settings import OnlyKafka
from login_blocking.attempts import FUTURE_REFUSED_MS
from login_blocking.complaints import complaints
from login_blocking.kafka_access import KafkaAccess
from login_blocking.names import (
    BLOCK_COMMANDS,
    BLOCK_EVENTS,
    LOGIN_ATTEMPTS,
    LOGIN_ATTEMPTS_REJECTED,
)

PARTITIONS: Final = 8
"""A multiple of every parallelism that is planned: 1, 2, 4, 8."""

_REPLICAS_FOR_TWO_IN_SYNC: Final = 3
_UNKNOWN_TOPIC: Final = 3
_DAY_MS: Final = 86_400_000
_REQUEST_TIMEOUT_MS: Final = 15_000
_BOOTSTRAP_TIMEOUT_MS: Final = 3_000
_TRY_EVERY_S: Final = 1.0
_STAMPED: Final = {
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": str(FUTURE_REFUSED_MS),
}
CONFIGS: Final[Mapping[str, Mapping[str, str]]] = {
    LOGIN_ATTEMPTS: {**_STAMPED, "retention.ms": str(7 * _DAY_MS)},
    LOGIN_ATTEMPTS_REJECTED: {"retention.ms": str(30 * _DAY_MS)},
    BLOCK_COMMANDS: {**_STAMPED, "retention.ms": "-1"},
    # The audit trail, and what Redis is rebuilt from: kept until people say so.
    BLOCK_EVENTS: {"retention.ms": "-1"},
}
"""Each topic's settings."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How topics are spread over brokers."""

    partitions: int = PARTITIONS
    replication_factor: int = 1

    def settings(self, own: Mapping[str, str]) -> dict[str, str]:
        """A topic's settings: with three replicas a write waits for two, so one may be away."""
        if self.replication_factor < _REPLICAS_FOR_TWO_IN_SYNC:
            return dict(own)
        return {**own, "min.insync.replicas": "2"}


def create_missing(
    access: KafkaAccess, wanted: Mapping[str, Mapping[str, str]], shape: Shape
) -> list[str]:
    """Creates topics where there are none of that name, and returns the names that were missing.

    Raises KafkaError, when some may have been created already: do it again.
    """
    with admin_of(access) as admin:
        there = _existing(admin, wanted)
        missing = {
            name: {
                "num_partitions": shape.partitions,
                "replication_factor": shape.replication_factor,
                "configs": shape.settings(wanted[name]),
            }
            for name in sorted(wanted)
            if name not in there
        }
        if missing:
            try:
                admin.create_topics(missing, timeout_ms=_REQUEST_TIMEOUT_MS)
            except TopicAlreadyExistsError:  # another one starts now: what it left out remains
                create_missing(access, wanted, shape)
    return list(missing)


def differences(
    access: KafkaAccess, wanted: Mapping[str, Mapping[str, str]], shape: Shape
) -> list[str]:
    """How existing topics are otherwise than wanted, a line each, and what to do about it."""
    with admin_of(access) as admin:
        topics = _existing(admin, wanted)
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in topics]
        configs = admin.describe_configs(resources, config_filter="all").get("topic", {})
    lines: list[str] = []
    for name, topic in topics.items():
        lines += _other_shape(name, topic["partitions"], shape)
        values = {key: entry["value"] for key, entry in configs.get(name, {}).items()}
        if not values:
            lines.append(f"{name}: its settings cannot be compared without right DescribeConfigs")
            continue
        lines += [
            f"{name}: {key} is {values.get(key)}, not {value}; to change it: kafka-configs.sh "
            f"--alter --entity-type topics --entity-name {name} --add-config {key}={value}"
            for key, value in shape.settings(wanted[name]).items()
            if values.get(key) != value
        ]
    return lines


def _other_shape(name: str, partitions: list[Any], shape: Shape) -> Iterator[str]:
    if len(partitions) < shape.partitions:
        yield (
            f"{name}: {len(partitions)} partitions, not {shape.partitions}; to add some: "
            f"kafka-topics.sh --alter --topic {name} --partitions {shape.partitions}. Keys move to "
            "other partitions: at a quiet hour, when all that was written has been judged"
        )
    elif len(partitions) > shape.partitions:
        yield (
            f"{name}: {len(partitions)} partitions, not {shape.partitions}; Kafka takes none away: "
            f"say --partitions {len(partitions)}"
        )
    replicas = min(len(partition["replica_nodes"]) for partition in partitions)
    if replicas != shape.replication_factor:
        yield (
            f"{name}: {replicas} replicas, not {shape.replication_factor}; to change it: "
            "kafka-reassign-partitions.sh"
        )


def _existing(admin: KafkaAdminClient, names: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found = {}
    for topic in admin.describe_topics(list(names)):
        code = topic["error_code"]
        if code == _UNKNOWN_TOPIC:
            continue
        if code:
            raise for_code(code)(topic["name"])
        found[topic["name"]] = topic
    return found


@contextmanager
def admin_of(access: KafkaAccess) -> Iterator[KafkaAdminClient]:
    """A client that creates and describes; raises KafkaError, at once where nothing listens."""
    if not listening(access):
        raise KafkaTimeoutError(f"nothing listens at {access.bootstrap}")
    admin = KafkaAdminClient(
        **client_arguments(access),
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
        bootstrap_timeout_ms=_BOOTSTRAP_TIMEOUT_MS,
    )
    try:
        yield admin
    finally:
        admin.close()


def main() -> int:
    """0: the topics are there; 1: Kafka did not answer in time or refused; 2: wrong settings."""
    parser = argparse.ArgumentParser(prog="login_api.topics", description=__doc__)
    parser.add_argument("--partitions", type=_positive, default=PARTITIONS)
    parser.add_argument("--replication-factor", type=_positive, default=1)
    parser.add_argument("--wait-s", type=float, default=60.0, help="how long to try")
    given = parser.parse_args()
    try:
        access = OnlyKafka().kafka()
    except ValidationError as error:
        sys.stderr.writelines(f"{line}\n" for line in complaints(error, "LOGIN_API_"))
        return 2
    shape = Shape(given.partitions, given.replication_factor)
    deadline = time.monotonic() + given.wait_s
    told = ""
    created: list[str] = []
    while True:
        try:
            created += create_missing(access, CONFIGS, shape)
            other = differences(access, CONFIGS, shape)
        except KafkaError as error:
            why = refusal(access, error)
            reason = f"{type(error).__name__}: {error}" if why is None else f"refused: {why}"
            last = time.monotonic() + _TRY_EVERY_S > deadline
            if reason != told and not last:
                sys.stderr.write(f"Kafka at {access.bootstrap}: {reason}; trying again\n")
                told = reason
            if last:
                sys.stderr.write(
                    f"The topics are not there after {given.wait_s:g} s. "
                    f"Kafka at {access.bootstrap}: {reason}\n"
                )
                return 1
            time.sleep(_TRY_EVERY_S)
        else:
            sys.stdout.write(f"created {', '.join(created)}\n" if created else "all there\n")
            sys.stderr.writelines(f"{line}\n" for line in other)
            return 0


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
