"""What Flink's Kafka tables are told of how Kafka is reached."""

from typing import Final

from login_blocking.kafka_access import SASL_MECHANISM, KafkaAccess

SHADED: Final = "org.apache.flink.kafka.shaded.org.apache.kafka"
"""Where flink-sql-connector-kafka keeps Kafka's own classes."""


def client_properties(access: KafkaAccess) -> dict[str, str]:
    """Properties of Kafka's Java clients; host names are verified, as is their default."""
    properties = {"bootstrap.servers": access.bootstrap}
    if access.security != "plaintext":
        properties["security.protocol"] = access.protocol
    if access.ca_file is not None:
        properties |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": access.ca_file}
    if access.username is not None and access.password is not None:
        properties |= {
            "sasl.mechanism": SASL_MECHANISM,
            # Under this name Flink and Kafka both hide the value where they show their settings.
            "sasl.jaas.config": f"{SHADED}.common.security.scram.ScramLoginModule required "
            f"username={_jaas_text(access.username)} password={_jaas_text(access.password)};",
        }
    return properties


def access_sql(access: KafkaAccess) -> str:
    """The same as options of a table, for its WITH clause; a comma ends it."""
    return "\n  ".join(
        f"'properties.{name}' = {_sql_text(value)},"
        for name, value in client_properties(access).items()
    )


def _jaas_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _sql_text(text: str) -> str:
    escaped = text.replace("'", "''")
    return f"'{escaped}'"
