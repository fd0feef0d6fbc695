"""The topics, created explicitly: a broker that makes topics up hides a misspelt name."""

from typing import Final

from kafka import KafkaAdminClient
from kafka.admin import NewPartitions, NewTopic
from kafka.errors import TopicAlreadyExistsError

from login_blocking.attempts import FUTURE_REFUSED_MS
from login_blocking.names import (
    BLOCK_COMMANDS,
    BLOCK_EVENTS,
    LOGIN_ATTEMPTS,
    LOGIN_ATTEMPTS_REJECTED,
)

PARTITIONS: Final = 8
"""A multiple of every parallelism that is planned: 1, 2, 4, 8."""

_ATTEMPTS_CONFIG: Final = {
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": str(FUTURE_REFUSED_MS),
    "retention.ms": str(7 * 86_400_000),
}
_REJECTED_CONFIG: Final = {"retention.ms": str(30 * 86_400_000)}
_COMMANDS_CONFIG: Final = {
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": str(FUTURE_REFUSED_MS),
    "retention.ms": "-1",
}
_HISTORY_CONFIG: Final = {"retention.ms": "-1"}
"""Block events are the audit trail and what Redis is rebuilt from: kept until people say so."""


def create(bootstrap: str) -> str:
    """Creates the topics that are missing; says what it did."""
    return create_topics(
        bootstrap,
        {
            LOGIN_ATTEMPTS: _ATTEMPTS_CONFIG,
            LOGIN_ATTEMPTS_REJECTED: _REJECTED_CONFIG,
            BLOCK_COMMANDS: _COMMANDS_CONFIG,
            BLOCK_EVENTS: _HISTORY_CONFIG,
        },
    )


def create_topics(
    bootstrap: str, wanted: dict[str, dict[str, str]], partitions: int = PARTITIONS
) -> str:
    """Creates topics with their settings where there are none of that name."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=15_000)
    try:
        missing = sorted(set(wanted) - set(admin.list_topics()))
        new = [NewTopic(name, partitions, 1, topic_configs=wanted[name]) for name in missing]
        if new:
            admin.create_topics(new)
    except TopicAlreadyExistsError:
        return "another start created them"
    finally:
        admin.close()
    return f"created {', '.join(missing)}" if missing else "present"


def add_partition(bootstrap: str, name: str) -> None:
    """Gives a topic one partition more."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=15_000)
    try:
        (topic,) = admin.describe_topics([name])
        admin.create_partitions({name: NewPartitions(len(topic["partitions"]) + 1)})
    finally:
        admin.close()


def delete_topics(bootstrap: str, names: list[str]) -> None:
    """Deletes topics, of a replay that has ended."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=15_000)
    try:
        admin.delete_topics(names)
    finally:
        admin.close()
