"""A real broker that asks who one is: TLS by an authority of the test's own, SCRAM, and ACLs.

Its users have the rights that docs/kafka-security.md promises to be enough, and no others.
"""

import re
import secrets
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from kafka.errors import KafkaError

from login_api.kafka_clients import client_arguments
from login_blocking.kafka_access import KafkaAccess
from tests.support.services import (
    REPOSITORY,
    ServerProcess,
    free_port,
    kafka_java,
    running_server,
    wait_until,
)

USERS = ("login-api", "detector", "topics", "operator", "stranger")
"""The table's, and one who may nothing."""
ADMIN = "admin"
# Every character that SQL, JAAS or a shell could take for its own.
AWKWARD = 'it\'s "quoted" \\ and; ${env:HOME} `x` %s {y} '
_RIGHT = re.compile(r"\| `([\w-]+)` \| (topic|group) \| `([\w-]+)` \| ([\w, ]+) \|")


@dataclass(frozen=True, slots=True)
class Right:
    """A row of the table."""

    user: str
    resource: str
    name: str
    operations: tuple[str, ...]


def documented_rights() -> list[Right]:
    text = (REPOSITORY / "docs" / "kafka-security.md").read_text(encoding="utf-8")
    return [
        Right(user, resource, name, tuple(operations.split(", ")))
        for user, resource, name, operations in _RIGHT.findall(text)
    ]


@dataclass(frozen=True, slots=True)
class SecuredKafka:
    """A broker of one node without topics."""

    port: int
    process: ServerProcess
    ca_file: Path
    log: Path
    passwords: Mapping[str, str] = field(repr=False)

    def access(self, user: str, **changed: Any) -> KafkaAccess:  # noqa: ANN401 — KafkaAccess' own
        """As one of its users; `changed`: other values for KafkaAccess."""
        given: dict[str, Any] = {
            "bootstrap": f"127.0.0.1:{self.port}",
            "security": "sasl-tls",
            "ca_file": str(self.ca_file),
            "username": user,
            "password": self.passwords[user],
        }
        return KafkaAccess(**given | changed)

    def environment(self, prefix: str, user: str) -> dict[str, str]:
        """The settings of a deployable that comes as this user."""
        return {
            f"{prefix}KAFKA_BOOTSTRAP": f"127.0.0.1:{self.port}",
            f"{prefix}KAFKA_SECURITY": "sasl-tls",
            f"{prefix}KAFKA_CA_FILE": str(self.ca_file),
            f"{prefix}KAFKA_USERNAME": user,
            f"{prefix}KAFKA_PASSWORD": self.passwords[user],
        }

    def change_rights(self, rights: list[Right], *, given: bool = True) -> None:
        """Gives rights, or takes them away."""
        with self.admin() as admin:
            acls = [acl for right in rights for acl in _acls(right)]
            if given:
                assert admin.create_acls(acls)["failed"] == []
            else:
                admin.delete_acls(acls)

    @contextmanager
    def consumer(self, user: str) -> Iterator[KafkaConsumer]:
        """One without a group."""
        client = KafkaConsumer(**client_arguments(self.access(user)))
        try:
            yield client
        finally:
            client.close()

    def length(self, consumer: KafkaConsumer, topic: str) -> int:
        """How many records a topic holds."""
        numbers = consumer.partitions_for_topic(topic) or ()
        ends = consumer.end_offsets([TopicPartition(topic, number) for number in numbers])
        return sum(ends.values())

    @contextmanager
    def admin(self) -> Iterator[KafkaAdminClient]:
        """Who may everything."""
        client = KafkaAdminClient(
            **client_arguments(self.access(ADMIN)), bootstrap_timeout_ms=2_000
        )
        try:
            yield client
        finally:
            client.close()


@contextmanager
def running_secured_kafka(folder: Path, names: str = "IP:127.0.0.1") -> Iterator[SecuredKafka]:
    """`names`: whom the broker's certificate is for."""
    ca_file, keys = make_certificates(folder, names)
    passwords = {user: AWKWARD + secrets.token_hex(8) for user in USERS}
    passwords[ADMIN] = secrets.token_hex(8)
    port = free_port()
    properties = folder / "server.properties"
    properties.write_text(
        _PROPERTIES.format(port=port, controller=free_port(), dir=folder, keys=keys)
    )
    credential = f"SCRAM-SHA-512=[name={ADMIN},password={passwords[ADMIN]}]"
    subprocess.run(
        [
            *kafka_java(), "kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAA",
            "--add-scram", credential, "-c", str(properties),
        ],
        check=True, stdout=subprocess.DEVNULL, cwd=folder,
    )  # fmt: skip
    with running_server([*kafka_java(), "kafka.Kafka", str(properties)], folder) as process:
        server = SecuredKafka(port, process, ca_file, folder / "output.log", passwords)
        if "127.0.0.1" in names:
            wait_until(lambda: _connect(port), OSError, process, folder)
            wait_until(lambda: _add_users(server), KafkaError, process, folder)
            server.change_rights(documented_rights())
        yield server


def make_certificates(folder: Path, names: str) -> tuple[Path, Path]:
    """An authority's certificate, and a broker's key with its certificate, all PEM."""
    ca_file, keys = folder / "ca.crt", folder / "broker.pem"
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    _openssl(
        "req", "-x509", *key, "-keyout", str(folder / "ca.key"), "-out", str(ca_file),
        "-subj", "/CN=authority of a test",
    )  # fmt: skip
    _openssl(
        "req", "-x509", *key, "-keyout", str(folder / "broker.key"),
        "-out", str(folder / "broker.crt"), "-subj", "/CN=broker", "-CA", str(ca_file),
        "-CAkey", str(folder / "ca.key"), "-addext", f"subjectAltName={names}",
        "-addext", "basicConstraints=critical,CA:FALSE",
    )  # fmt: skip
    keys.write_text(
        "".join((folder / name).read_text() for name in ("broker.key", "broker.crt", "ca.crt"))
    )
    return ca_file, keys


def _connect(port: int) -> None:
    socket.create_connection(("127.0.0.1", port), timeout=2).close()


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def _add_users(server: SecuredKafka) -> None:
    with server.admin() as admin:
        told = admin.alter_user_scram_credentials(
            [
                UserScramCredentialUpsertion(
                    user, ScramMechanism.SCRAM_SHA_512, server.passwords[user]
                )
                for user in USERS
            ]
        )
    assert told == dict.fromkeys(USERS)


def _acls(right: Right) -> list[ACL]:
    pattern = ResourcePattern(ResourceType[right.resource.upper()], right.name)
    return [
        ACL(
            f"User:{right.user}",
            "*",
            ACLOperation[re.sub(r"(?<=[a-z])(?=[A-Z])", "_", operation).upper()],
            ACLPermissionType.ALLOW,
            pattern,
        )
        for operation in right.operations
    ]


_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=CLIENTS://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=CLIENTS://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=CLIENTS
listener.security.protocol.map=CLIENTS:SASL_SSL,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
listener.name.clients.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={keys}
ssl.truststore.type=PEM
ssl.truststore.location={dir}/ca.crt
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
# ANONYMOUS is the broker itself, on the controller's listener; clients have none without a name.
super.users=User:admin;User:ANONYMOUS
log.dirs={dir}/data
auto.create.topics.enable=false
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
"""
