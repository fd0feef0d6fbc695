"""Whether Kafka will let the job in, asked ahead of it: else it would only restart for ever."""

from collections.abc import Iterable
from typing import Any, Final

from py4j.protocol import Py4JJavaError
from pyflink.java_gateway import get_gateway

from flink_jobs.kafka_tables import SHADED, client_properties
from flink_jobs.refusal import RefusedError
from flink_jobs.settings import Settings
from login_blocking.kafka_access import KafkaAccess

_ANSWER_WITHIN_MS: Final = "10000"
_AWAY: Final = frozenset({"TimeoutException", "DisconnectException"})
_MEANING: Final = {
    "SaslAuthenticationException": "it does not know this user or password: "
    "DETECTOR_KAFKA_USERNAME, DETECTOR_KAFKA_PASSWORD",
    "UnsupportedSaslMechanismException": "it offers no SCRAM-SHA-512: DETECTOR_KAFKA_SECURITY",
    "IllegalSaslStateException": "it wants no user there: DETECTOR_KAFKA_SECURITY",
    "SslAuthenticationException": "its certificate is not accepted: DETECTOR_KAFKA_CA_FILE",
}


def check(settings: Settings) -> bool:
    """Returns if Kafka lets the job in and shows its topics; RefusedError says why it does not.

    Whether a job of the name has read the attempts before: its checkpoints commit their offsets.
    """
    read_before = False
    read = [settings.attempts_topic, settings.commands_topic]
    written = [settings.events_topic, settings.rejected_topic]
    wanted = [(name, "READ") for name in read if name is not None]
    wanted += [(name, "WRITE") for name in written if name is not None]
    access = settings.kafka()
    try:
        admin = _admin(access)
        try:
            missing, lacking = _missing_and_lacking(admin, wanted)
            if not settings.bounded:
                read_before = _has_read(admin, settings)
        finally:
            admin.close()
    except Py4JJavaError as error:
        raise RefusedError(_in_words(error.java_exception, access)) from error
    if missing:
        raise RefusedError(
            f"Kafka at {access.bootstrap} shows no topic {', '.join(missing)}: create what is "
            "missing (python -m login_api.topics), or allow this user to describe it"
        )
    if lacking:
        raise RefusedError(f"Kafka at {access.bootstrap}: {_lacks(access)} ({', '.join(lacking)})")
    return read_before


def _has_read(admin: Any, settings: Settings) -> bool:  # noqa: ANN401 — Java's
    group = admin.listConsumerGroupOffsets(settings.job_name)
    committed = group.partitionsToOffsetAndMetadata().get()
    return any(
        entry.getKey().topic() == settings.attempts_topic and entry.getValue() is not None
        for entry in committed.entrySet()
    )


def _admin(access: KafkaAccess) -> Any:  # noqa: ANN401 — Java's
    jvm = get_gateway().jvm
    properties = jvm.java.util.Properties()
    limits = {"request.timeout.ms": _ANSWER_WITHIN_MS, "default.api.timeout.ms": _ANSWER_WITHIN_MS}
    for name, value in (client_properties(access) | limits).items():
        properties.setProperty(name, value)
    return _java(f"{SHADED}.clients.admin.Admin").create(properties)


def _missing_and_lacking(
    admin: Any,  # noqa: ANN401 — Java's
    wanted: Iterable[tuple[str, str]],
) -> tuple[list[str], list[str]]:
    names = get_gateway().jvm.java.util.ArrayList()
    for name in dict(wanted):
        names.add(name)
    options = _java(f"{SHADED}.clients.admin.DescribeTopicsOptions")()
    topics = admin.describeTopics(
        names, options.includeAuthorizedOperations(True)
    ).topicNameValues()
    missing, lacking = [], []
    for name, operation in wanted:
        try:
            allowed = topics.get(name).get().authorizedOperations()
        except Py4JJavaError as error:
            causes = dict(_causes(error.java_exception))
            if "UnknownTopicOrPartitionException" in causes:
                missing.append(name)
            elif "TopicAuthorizationException" in causes:
                lacking.append(f"{operation.title()} on topic {name}")
            else:
                raise
            continue
        if allowed is not None and operation not in {it.name() for it in allowed}:
            lacking.append(f"{operation.title()} on topic {name}")
    return missing, lacking


def _in_words(error: Any, access: KafkaAccess) -> str:  # noqa: ANN401 — Java's
    """Of an exception's causes one that is known, else the innermost."""
    causes = _causes(error)
    where = f"Kafka at {access.bootstrap}"
    for name, told in causes:
        if name in _AWAY:
            return (
                f"Kafka does not answer at {access.bootstrap} ({name}: {told}): start it, or put "
                "DETECTOR_KAFKA_BOOTSTRAP and the settings beside it right"
            )
        if name in _MEANING:
            return f"{where}: {_MEANING[name]} ({told})"
        if name.endswith("AuthorizationException"):
            return f"{where}: {_lacks(access)} ({told})"
    innermost, told = causes[-1]
    return f"{where}: {innermost}: {told}"


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
