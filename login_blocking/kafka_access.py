"""How Kafka is reached: plainly, by TLS, with name and password; and which settings go together.

It connects nowhere: what a client is told of it is the deployables' business.
"""

import re
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    FilePath,
    SecretStr,
    model_validator,
)

KafkaSecurity = Literal["plaintext", "tls", "sasl-plaintext", "sasl-tls"]

_BOOTSTRAP: Final = re.compile(r"[^\s,']+:\d+(,[^\s,']+:\d+)*")
SASL_MECHANISM: Final = "SCRAM-SHA-512"
_PROTOCOLS: Final[dict[KafkaSecurity, str]] = {
    "plaintext": "PLAINTEXT",
    "tls": "SSL",
    "sasl-plaintext": "SASL_PLAINTEXT",
    "sasl-tls": "SASL_SSL",
}
# SCRAM would want a comma and an equals sign escaped, which kafka-python does not do.
_USERNAME: Final = re.compile(r"[!-+\--<>-~]+")
# Beyond ASCII clients differ in how they normalise; a line break would end the JAAS entry.
_PASSWORD: Final = re.compile(r"[ -~]+")


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """Where Kafka is, and as whom one comes."""

    bootstrap: str
    security: KafkaSecurity = "plaintext"
    ca_file: str | None = None
    """PEM, of the authorities that may sign the brokers' certificates; None: the system's."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def servers(self) -> list[str]:
        """The brokers to ask first, as `host:port`."""
        return self.bootstrap.split(",")

    @property
    def protocol(self) -> str:
        """Kafka's own word for `security`."""
        return _PROTOCOLS[self.security]

    @property
    def tls(self) -> bool:
        """Whether the brokers must show a certificate."""
        return self.security.endswith("tls")

    @property
    def sasl(self) -> bool:
        """Whether the brokers want to know who comes."""
        return self.security.startswith("sasl")


def _servers(text: str) -> str:
    if not _BOOTSTRAP.fullmatch(text):
        raise ValueError("host:port is wanted, of several brokers with commas between")
    return text


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


# compose and Kubernetes hand on what is not set as an empty text.
_NotGiven: Final = BeforeValidator(_none_if_empty)


class KafkaSettings(BaseModel):
    """The settings of a deployable that reaches Kafka, to be mixed into its BaseSettings.

    Its `env_prefix` is how messages name them.
    """

    kafka_bootstrap: Annotated[str, AfterValidator(_servers)]
    kafka_security: KafkaSecurity = "plaintext"
    kafka_ca_file: Annotated[FilePath | None, _NotGiven] = None
    kafka_username: Annotated[str | None, _NotGiven] = None
    kafka_password: Annotated[SecretStr | None, _NotGiven] = None

    def kafka(self) -> KafkaAccess:
        """The same as one value."""
        secret = self.kafka_password
        return KafkaAccess(
            self.kafka_bootstrap,
            self.kafka_security,
            None if self.kafka_ca_file is None else str(self.kafka_ca_file),
            self.kafka_username,
            None if secret is None else secret.get_secret_value(),
        )

    @model_validator(mode="after")
    def _with_what_kafka_wants(self) -> Self:
        wrong = _misfit(self.kafka())
        if wrong is not None:
            raise ValueError(wrong.format(f"{self.model_config.get('env_prefix', '')}KAFKA_"))
        return self


def _misfit(access: KafkaAccess) -> str | None:
    """What does not fit together, with `{0}` before the name of each setting."""
    chosen = f"{{0}}SECURITY is {access.security}"
    if access.ca_file is not None and not access.tls:
        return f"{{0}}CA_FILE: only with tls or sasl-tls, and {chosen}"
    for setting, value in (("USERNAME", access.username), ("PASSWORD", access.password)):
        if access.sasl and value is None:
            return f"{{0}}{setting} is missing: {chosen}"
        if not access.sasl and value is not None:
            return f"{{0}}{setting}: only with sasl-tls or sasl-plaintext, and {chosen}"
    if access.username is not None and not _USERNAME.fullmatch(access.username):
        return "{0}USERNAME: printable ASCII without blanks, commas and equals signs"
    if access.password is not None and not _PASSWORD.fullmatch(access.password):
        return "{0}PASSWORD: printable ASCII on one line"
    return None
