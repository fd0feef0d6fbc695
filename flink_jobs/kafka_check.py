"""Whether Kafka will let the job in, asked ahead of it: else it would only restart for ever."""

import time
from collections.abc import Iterable
from typing import Any, Final

from py4j.protocol import Py4JJavaError
from pyflink.java_gateway import get_gateway

from flink_jobs.kafka_tables import SHADED, client_properties
from flink_jobs.settings import Settings
from login_blocking.kafka_access import KafkaAccess

_WITHIN_S: Final = 15.0
"""Users, rights and topics may be made at the same moment as the job."""
_TRY_EVERY_S: Final = 1.0
_ANSWER_WITHIN_MS: Final = "5000"
_AWAY: Final = frozenset({"TimeoutException", "DisconnectException"})
_MEANING: Final = {
    "SaslAuthenticationException": "it does not know this user or password: "
    "DETECTOR_KAFKA_USERNAME, DETECTOR_KAFKA_PASSWORD",
    "UnsupportedSaslMechanismException": "it offers no SCRAM-SHA-512: DETECTOR_KAFKA_SECURITY",
    "IllegalSaslStateException": "it wants no user there: DETECTOR_KAFKA_SECURITY",
    "SslAuthenticationException": "its certificate is not accepted: DETECTOR_KAFKA_CA_FILE",
    "UnknownTopicOrPartitionException": "a topic is missing: python -m login_api.topics",
}


class KafkaRefusedError(ValueError):
    """Kafka will not let the job in; the message says why, and which setting to look at."""


def check(settings: Settings) -> None:
    """Returns if Kafka lets the job in, or is away: then the job waits for it.

    Raises KafkaRefusedError when it still refuses after some seconds.
    """
    deadline = time.monotonic() + _WITHIN_S
    while True:
        reason = _refusal(settings)
        if reason is None:
            return
        if time.monotonic() > deadline:
            raise KafkaRefusedError(f"Kafka at {settings.kafka_bootstrap}: {reason}")
        time.sleep(_TRY_EVERY_S)


def _refusal(settings: Settings) -> str | None:
    read = [settings.attempts_topic, settings.commands_topic]
    written = [settings.events_topic, settings.rejected_topic]
    wanted = [(name, "READ") for name in read if name is not None]
    wanted += [(name, "WRITE") for name in written if name is not None]
    access = settings.kafka()
    try:
        admin = _admin(access)
        try:
            lacking = _lacking(admin, wanted)
            if not settings.bounded:
                admin.listConsumerGroupOffsets(settings.job_name).all().get()
        finally:
            admin.close()
    except Py4JJavaError as error:
        return _in_words(error.java_exception, access)
    return f"{_lacks(access)} ({', '.join(lacking)})" if lacking else None


def _admin(access: KafkaAccess) -> Any:  # noqa: ANN401 — Java's
    jvm = get_gateway().jvm
    properties = jvm.java.util.Properties()
    limits = {"request.timeout.ms": _ANSWER_WITHIN_MS, "default.api.timeout.ms": _ANSWER_WITHIN_MS}
    for name, value in (client_properties(access) | limits).items():
        properties.setProperty(name, value)
    return _java(f"{SHADED}.clients.admin.Admin").create(properties)


def _lacking(admin: Any, wanted: Iterable[tuple[str, str]]) -> list[str]:  # noqa: ANN401 — Java's
    names = get_gateway().jvm.java.util.ArrayList()
    for name in dict(wanted):
        names.add(name)
    options = _java(f"{SHADED}.clients.admin.DescribeTopicsOptions")()
    topics = admin.describeTopics(
        names, options.includeAuthorizedOperations(True)
    ).topicNameValues()
    lacking = []
    for name, operation in wanted:
        try:
            allowed = topics.get(name).get().authorizedOperations()
        except Py4JJavaError as error:
            if "TopicAuthorizationException" not in dict(_causes(error.java_exception)):
                raise
            lacking.append(f"{operation.title()} on topic {name}")
            continue
        if allowed is not None and operation not in {it.name() for it in allowed}:
            lacking.append(f"{operation.title()} on topic {name}")
    return lacking


def _in_words(error: Any, access: KafkaAccess) -> str | None:  # noqa: ANN401 — Java's
    """Of an exception's causes one that is known, else the innermost; None: Kafka is away."""
    causes = _causes(error)
    innermost, message = causes[-1]
    for name, told in causes:
        if name in _AWAY:
            return None
        if name in _MEANING:
            return f"{_MEANING[name]} ({message})"
        if name.endswith("AuthorizationException"):
            return f"{_lacks(access)} ({told})"
    return f"{innermost}: {message}"


def _causes(error: Any) -> list[tuple[str, str]]:  # noqa: ANN401 — Java's
    """Class and message of an exception and of what caused it, outermost first."""
    causes = []
    while error is not None:
        causes.append((error.getClass().getSimpleName(), str(error.getMessage())))
        error = error.getCause()
    return causes


def _lacks(access: KafkaAccess) -> str:
    who = "a client without a name" if access.username is None else f"user {access.username}"
    return f"{who} lacks a right: docs/kafka-security.md"


def _java(name: str) -> Any:  # noqa: ANN401 — Java's
    found: Any = get_gateway().jvm
    for part in name.split("."):
        found = getattr(found, part)
    return found
