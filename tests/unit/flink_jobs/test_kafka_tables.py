"""What Flink's tables are told of how Kafka is reached; that it works: tests/e2e."""

from flink_jobs.kafka_tables import access_sql, client_properties
from login_blocking.kafka_access import KafkaAccess


def test_without_security_only_the_brokers_are_told() -> None:
    assert access_sql(KafkaAccess("a:1,b:2")) == "'properties.bootstrap.servers' = 'a:1,b:2',"


def test_tls_trusts_the_systems_authorities_or_those_of_a_file() -> None:
    assert client_properties(KafkaAccess("a:1", "tls")) == {
        "bootstrap.servers": "a:1",
        "security.protocol": "SSL",
    }
    assert client_properties(KafkaAccess("a:1", "tls", "/ca.crt")) == {
        "bootstrap.servers": "a:1",
        "security.protocol": "SSL",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": "/ca.crt",
    }


def test_password_keeps_its_quotes_through_jaas_and_sql() -> None:
    access = KafkaAccess("a:1", "sasl-tls", None, "detector", r"""it's "so" \ done;""")

    properties = client_properties(access)

    assert properties["sasl.jaas.config"].endswith(
        r"""required username="detector" password="it's \"so\" \\ done;";"""
    )
    assert r"""password="it''s \"so\" \\ done;";',""" in access_sql(access)
