"""`python -m login_api.topics` against a real broker, and against none."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from login_api.topics import CONFIGS, Shape, admin_of, create_missing
from login_blocking.attempts import FUTURE_REFUSED_MS
from login_blocking.names import BLOCK_EVENTS, LOGIN_ATTEMPTS
from tests.support.secured_kafka import Right, SecuredKafka, running_secured_kafka
from tests.support.services import REPOSITORY, KafkaServer, free_port, running_kafka

pytestmark = [pytest.mark.service, pytest.mark.timeout(240)]


def run(settings: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("LOGIN_API_")}
    return subprocess.run(
        [sys.executable, "-m", "login_api.topics", *arguments],
        env=clean | settings, cwd=REPOSITORY, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip


def at(server: KafkaServer) -> dict[str, str]:
    return {"LOGIN_API_KAFKA_BOOTSTRAP": server.bootstrap}


def of_topics(kafka: SecuredKafka, user: str = "topics") -> dict[str, str]:
    return kafka.environment("LOGIN_API_", user)


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """It has the topics of attempts and commands, with other partitions and settings."""
    with running_kafka(tmp_path_factory.mktemp("topics")) as server:
        yield server


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    with running_secured_kafka(tmp_path_factory.mktemp("secured-topics")) as server:
        yield server


def test_missing_topics_are_created_and_others_only_looked_at(kafka: KafkaServer) -> None:
    told = run(at(kafka))

    assert told.returncode == 0
    assert told.stdout == "created block-events, login-attempts-rejected\n"
    lines = told.stderr.splitlines()
    assert f"{LOGIN_ATTEMPTS}: 4 partitions, not 8; to add some: kafka-topics.sh" in told.stderr
    (retention,) = [line for line in lines if line.startswith("block-commands: retention.ms")]
    assert retention == (
        "block-commands: retention.ms is 604800000, not -1; to change it: kafka-configs.sh "
        "--alter --entity-type topics --entity-name block-commands --add-config retention.ms=-1"
    )
    assert {line.partition(":")[0] for line in lines} == {LOGIN_ATTEMPTS, "block-commands"}
    with admin_of(kafka.access) as admin:
        topics = {topic["name"]: topic for topic in admin.describe_topics(list(CONFIGS))}
        resource = ConfigResource(ConfigResourceType.TOPIC, LOGIN_ATTEMPTS)
        config = admin.describe_configs([resource], config_filter="all")["topic"][LOGIN_ATTEMPTS]
    assert len(topics[LOGIN_ATTEMPTS]["partitions"]) == 4
    assert len(topics[BLOCK_EVENTS]["partitions"]) == 8
    assert config["message.timestamp.after.max.ms"]["value"] != str(FUTURE_REFUSED_MS)


def test_a_second_start_creates_nothing(kafka: KafkaServer) -> None:
    run(at(kafka))

    told = run(at(kafka))

    assert (told.returncode, told.stdout) == (0, "all there\n")


def test_more_partitions_than_wanted_are_told_with_what_to_say(kafka: KafkaServer) -> None:
    told = run(at(kafka), "--partitions", "2")

    assert told.returncode == 0
    assert f"{LOGIN_ATTEMPTS}: 4 partitions, not 2; Kafka takes none away: say --partitions 4" in (
        told.stderr
    )


def test_created_topics_have_their_settings(kafka: KafkaServer) -> None:
    wanted = {"a-new-topic": {"retention.ms": "-1", "message.timestamp.type": "CreateTime"}}

    assert create_missing(kafka.access, wanted, Shape(3)) == ["a-new-topic"]

    with admin_of(kafka.access) as admin:
        (topic,) = admin.describe_topics(["a-new-topic"])
        resource = ConfigResource(ConfigResourceType.TOPIC, "a-new-topic")
        config = admin.describe_configs([resource])["topic"]["a-new-topic"]
    assert len(topic["partitions"]) == 3
    assert config["retention.ms"]["value"] == "-1"


def test_more_replicas_than_brokers_are_refused_in_time(tmp_path: Path) -> None:
    with running_kafka(tmp_path) as server:
        told = run(at(server), "--replication-factor", "3", "--wait-s", "3")

    assert told.returncode == 1
    assert "not there after 3 s" in told.stderr
    assert "InvalidReplicationFactorError" in told.stderr


def test_three_replicas_mean_two_in_sync() -> None:
    own = {"retention.ms": "-1"}

    assert Shape(8, 3).settings(own) == {**own, "min.insync.replicas": "2"}
    assert Shape(8, 2).settings(own) == Shape(8, 1).settings(own) == own


def test_without_a_broker_it_gives_up_in_time() -> None:
    nowhere = {"LOGIN_API_KAFKA_BOOTSTRAP": f"127.0.0.1:{free_port()}"}

    told = run(nowhere, "--wait-s", "2")

    assert told.returncode == 1
    assert "nothing listens at" in told.stderr
    assert told.stderr.count("\n") == 2  # the first reason, and the end


def test_it_waits_for_a_broker_that_comes_late(tmp_path: Path) -> None:
    port = free_port()
    settings = {**os.environ, "LOGIN_API_KAFKA_BOOTSTRAP": f"127.0.0.1:{port}"}
    started = subprocess.Popen(
        [sys.executable, "-m", "login_api.topics", "--wait-s", "100"],
        env=settings, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with running_kafka(tmp_path, port):
        output, errors = started.communicate(timeout=110)

    assert started.returncode == 0, errors
    assert output.startswith("created ")


@pytest.mark.parametrize(
    ("settings", "arguments", "told"),
    [
        ({}, [], "LOGIN_API_KAFKA_BOOTSTRAP: Field required\n"),
        ({"LOGIN_API_KAFKA_BOOTSTRAP": "kafka"}, [], "LOGIN_API_KAFKA_BOOTSTRAP: host:port"),
        ({"LOGIN_API_KAFKA_BOOTSTRAP": "kafka:1"}, ["--partitions", "0"], "'0' is not a whole"),
        ({"LOGIN_API_KAFKA_BOOTSTRAP": "kafka:1"}, ["--replication-factor", "x"], "usage: "),
    ],
)
def test_wrong_settings_are_another_exit_code(
    settings: dict[str, str], arguments: list[str], told: str
) -> None:
    done = run(settings, *arguments)

    assert done.returncode == 2
    assert told in done.stderr


def test_its_documented_rights_are_enough_and_only_kafkas_settings_are_needed(
    secured: SecuredKafka,
) -> None:
    told = run(of_topics(secured))

    assert (told.returncode, told.stderr) == (0, "")
    assert run(of_topics(secured)).stdout == "all there\n"


def test_a_wrong_password_is_told_with_the_settings_to_look_at(secured: SecuredKafka) -> None:
    settings = of_topics(secured) | {"LOGIN_API_KAFKA_PASSWORD": "canary-wrong"}

    told = run(settings, "--wait-s", "1")

    assert told.returncode == 1
    assert "refused: 127.0.0.1:" in told.stderr
    assert "LOGIN_API_KAFKA_USERNAME, LOGIN_API_KAFKA_PASSWORD" in told.stderr
    assert "canary-wrong" not in told.stderr


def test_a_user_without_rights_is_told(secured: SecuredKafka) -> None:
    told = run(of_topics(secured, "stranger"), "--wait-s", "1")

    assert told.returncode == 1
    assert "user stranger lacks a right (" in told.stderr
    assert "docs/kafka-security.md" in told.stderr


def test_without_describe_configs_the_topics_are_there_all_the_same(secured: SecuredKafka) -> None:
    run(of_topics(secured))
    taken = [Right("topics", "topic", BLOCK_EVENTS, ("DescribeConfigs",))]
    secured.change_rights(taken, given=False)
    try:
        told = run(of_topics(secured))
    finally:
        secured.change_rights(taken)

    assert (told.returncode, told.stdout) == (0, "all there\n")
    assert (
        told.stderr
        == f"{BLOCK_EVENTS}: its settings cannot be compared without right DescribeConfigs\n"
    )
