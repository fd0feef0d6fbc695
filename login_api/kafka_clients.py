"""What kafka-python's clients are told of how Kafka is reached, and why Kafka refuses them."""

import socket
import ssl
import struct
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import (
    AuthorizationError,
    IllegalSaslStateError,
    KafkaError,
    KafkaProtocolError,
    SaslAuthenticationFailedError,
    UnknownTopicOrPartitionError,
    UnsupportedSaslMechanismError,
    for_code,
)
from kafka.net.sasl import get_sasl_mechanism
from kafka.protocol.metadata import ApiVersionsRequest
from kafka.protocol.parser import KafkaProtocol
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslHandshakeRequest

from login_blocking.kafka_access import SASL_MECHANISM, KafkaAccess

_PROBE_TIMEOUT_S: Final = 3.0
_PREFIX: Final = "LOGIN_API_KAFKA_"


def client_arguments(access: KafkaAccess) -> dict[str, Any]:
    """Arguments that every client takes: producer, consumer and admin."""
    arguments: dict[str, Any] = {
        "bootstrap_servers": access.servers,
        "security_protocol": access.protocol,
    }
    if access.tls:
        arguments |= {"ssl_check_hostname": True, "ssl_cafile": access.ca_file}
    if access.sasl:
        arguments |= {
            "sasl_mechanism": SASL_MECHANISM,
            "sasl_plain_username": access.username,
            "sasl_plain_password": access.password,
        }
    return arguments


def listening(access: KafkaAccess) -> bool:
    """Whether something accepts connections there.

    Look before a client is made: where nothing listens its constructor leaves sockets open.
    """
    for host, port in map(_host_and_port, access.servers):
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            continue
        return True
    return False


def partitions_of(consumer: KafkaConsumer, topic: str) -> list[TopicPartition]:
    """Raises UnknownTopicOrPartitionError: a topic that one may not see is as good as none."""
    numbers = consumer.partitions_for_topic(topic)
    if not numbers:  # what it holds is not known then: not the same as nothing
        raise UnknownTopicOrPartitionError(topic)
    return [TopicPartition(topic, number) for number in sorted(numbers)]


def refusal(access: KafkaAccess, error: Exception, prefix: str = _PREFIX) -> str | None:
    """Why Kafka refuses us, with the setting to look at; None: it does not, it is away or slow.

    `error` is what a client raised. If it tells nothing (a client that cannot connect raises a
    timeout, whatever the reason), a connection of one's own is tried.
    """
    user = "a client without a name" if access.username is None else f"user {access.username}"
    # Of these errors the message is the topic, if they are about one.
    about = ", ".join(map(str, error.args)) or type(error).__name__
    if isinstance(error, AuthorizationError):
        return f"{user} lacks a right ({about}): docs/kafka-security.md"
    if isinstance(error, UnknownTopicOrPartitionError):
        return (
            f"topic {about} is missing (python -m login_api.topics creates it), or {user} may not "
            "see it (docs/kafka-security.md)"
        )
    for host, port in map(_host_and_port, access.servers):
        reason = _refusal_by(access, host, port, prefix)
        if reason is not None:
            return f"{host}:{port}: {reason}"
    return None


def _refusal_by(access: KafkaAccess, host: str, port: int, prefix: str) -> str | None:
    try:
        with socket.create_connection((host, port), timeout=_PROBE_TIMEOUT_S) as plain:
            if not access.tls:
                _authenticate(access, plain)
                return None
            with _context(access).wrap_socket(plain, server_hostname=host) as encrypted:
                _authenticate(access, encrypted)
                return None
    except (KafkaError, OSError, EOFError, ValueError, struct.error) as error:
        return _in_words(error, access, prefix)


def _in_words(error: Exception, access: KafkaAccess, prefix: str) -> str | None:
    words = None  # away, or slow
    match error:
        case ssl.SSLCertVerificationError():
            words = f"its certificate is not accepted ({error.verify_message}): {prefix}CA_FILE"
        case ssl.SSLError():
            words = f"no TLS with it ({error.reason}): {prefix}SECURITY, {prefix}CA_FILE"
        case SaslAuthenticationFailedError():
            words = f"it does not know this user or password: {prefix}USERNAME, {prefix}PASSWORD"
        case UnsupportedSaslMechanismError():
            words = f"it offers no {SASL_MECHANISM}: {prefix}SECURITY"
        case IllegalSaslStateError():
            words = f"it wants no user there: {prefix}SECURITY"
        case EOFError() | ConnectionResetError() | KafkaProtocolError() | struct.error():
            words = f"it does not speak {access.protocol} there: {prefix}SECURITY"
    return words


def _context(access: KafkaAccess) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=access.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _authenticate(access: KafkaAccess, connection: socket.socket) -> None:
    """Shows name and password, as kafka-python would; but it drops what comes with the close.

    So of a refusal it only says that the socket was disconnected (3.0.12). Raises KafkaError.
    """
    protocol = KafkaProtocol()
    _ask(protocol, connection, ApiVersionsRequest(version=0))
    if not access.sasl:
        return
    answer = _ask(protocol, connection, SaslHandshakeRequest(version=1, mechanism=SASL_MECHANISM))
    if answer.error_code:
        raise for_code(answer.error_code)
    mechanism = get_sasl_mechanism(SASL_MECHANISM)(**client_arguments(access))
    while not mechanism.is_done():
        message = mechanism.auth_bytes()
        answer = _ask(protocol, connection, SaslAuthenticateRequest(version=1, auth_bytes=message))
        if answer.error_code:
            raise SaslAuthenticationFailedError
        mechanism.receive(answer.auth_bytes)


def _ask(protocol: Any, connection: socket.socket, request: Any) -> Any:  # noqa: ANN401 — no types
    protocol.send_request(request)
    connection.sendall(protocol.send_bytes())
    while True:
        received = connection.recv(4_096)
        if not received:
            raise EOFError
        for _, answer in protocol.receive_bytes(received):
            return answer


def _host_and_port(server: str) -> tuple[str, int]:
    host, _, port = server.strip().rpartition(":")
    return host.strip("[]"), int(port)
