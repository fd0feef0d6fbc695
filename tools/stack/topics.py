"""Topics of the local stack: the live ones are the Login API's, a replay makes its own."""

from kafka.admin import NewPartitions

from login_api.topics import CONFIGS, PARTITIONS, Shape, admin_of, create_missing
from login_blocking.kafka_access import KafkaAccess


def create(bootstrap: str) -> str:
    """Creates the topics that are missing; says what it did."""
    created = create_missing(KafkaAccess(bootstrap), CONFIGS, Shape())
    return f"created {', '.join(created)}" if created else "present"


def create_topics(
    bootstrap: str, wanted: dict[str, dict[str, str]], partitions: int = PARTITIONS
) -> None:
    """Creates topics with their settings where there are none of that name."""
    create_missing(KafkaAccess(bootstrap), wanted, Shape(partitions))


def add_partition(bootstrap: str, name: str) -> None:
    """Gives a topic one partition more."""
    with admin_of(KafkaAccess(bootstrap)) as admin:
        (topic,) = admin.describe_topics([name])
        admin.create_partitions({name: NewPartitions(len(topic["partitions"]) + 1)})


def delete_topics(bootstrap: str, names: list[str]) -> None:
    """Deletes topics, of a replay that has ended."""
    with admin_of(KafkaAccess(bootstrap)) as admin:
        admin.delete_topics(names)
