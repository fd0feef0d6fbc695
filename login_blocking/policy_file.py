"""Reads a policy from YAML (JSON is YAML) and refuses it as a whole, with every error at once."""

import ipaddress
from collections import Counter
from difflib import get_close_matches
from typing import Annotated, Any, Final

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)

from login_blocking.policy import (
    COUNTABLE,
    LONGEST_BLOCK_MS,
    OPERATOR_RULE,
    Count,
    Exemptions,
    Network,
    Places,
    Policy,
    Rule,
    parse_duration_ms,
)
from login_blocking.subjects import SubjectType, user_key

_LONGEST_WINDOW_MS: Final = 30 * 86_400_000
_LARGEST_THRESHOLD: Final = 1_000
_LONGEST_TEXT: Final = 262_144
_IPV4_IN_IPV6: Final = ipaddress.IPv6Network("::ffff:0:0/96")
_DURATION_PATTERN: Final = "^[0-9]+(ms|s|m|h|d)$"


class PolicyError(ValueError):
    """A policy that cannot be used; `errors` holds every reason, each with its path."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


def parse_policy(text: str) -> Policy:
    """The policy that a YAML document states; raises PolicyError with everything wrong in it."""
    if len(text) > _LONGEST_TEXT:
        raise PolicyError([f"policy: longer than {_LONGEST_TEXT:,} characters"])
    try:
        document = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 — derives from SafeLoader
    except RecursionError as error:
        raise PolicyError(["not YAML: nested too deeply"]) from error
    # KeyError, TypeError, AttributeError: PyYAML's own, for tags that do not fit their values.
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PolicyError([f"not YAML: {error}"]) from error
    if document is None:
        raise PolicyError(["policy: empty; it wants rules and forget_level_after"])
    if not isinstance(document, dict):
        raise PolicyError(["policy: not a mapping that holds rules and forget_level_after"])
    errors = []
    try:
        read = _PolicyDocument.model_validate(document)
    except ValidationError as error:
        errors = [_readable(detail) for detail in error.errors()]
    # Beside pydantic, whose validators of a whole rule run only once each field is right.
    errors += _contradictions(document)
    if errors:
        raise PolicyError(errors)
    return read.to_policy()


def policy_json_schema() -> dict[str, Any]:
    """The JSON Schema of a policy file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **_PolicyDocument.model_json_schema(),
    }


def _contradictions(document: dict[Any, Any]) -> list[str]:
    """What is wrong between fields, as far as the fields can be read."""
    rules = document.get("rules")
    if not isinstance(rules, list):
        return []
    found = []
    names = Counter(str(rule.get("name")) for rule in rules if isinstance(rule, dict))
    for number, rule in enumerate(rules):
        if not isinstance(rule, dict):
            continue
        path, name, subject, count = f"rules.{number}", rule.get("name"), *_counted(rule)
        if name == OPERATOR_RULE:
            found.append(f"{path}.name: {OPERATOR_RULE} is kept for blocks made by hand")
        if name is not None and names[str(name)] > 1:
            found.append(f"{path}.name: another rule is named {name!r} too")
        if subject and count and count not in COUNTABLE[subject]:
            allowed = " or ".join(COUNTABLE[subject])
            found.append(f"{path}.count: of a subject {subject}, count {allowed}")
        if rule.get("reset_on_success") is True and count and count != "failures":
            found.append(f"{path}.reset_on_success: only a rule that counts failures can reset")
        if subject == "ip" and rule.get("places", "any") != "any":
            found.append(f"{path}.places: only a user has known places")
    return found


def _counted(rule: dict[Any, Any]) -> tuple[SubjectType | None, Count | None]:
    subject = next((known for known in COUNTABLE if known == rule.get("subject")), None)
    counts = {count for allowed in COUNTABLE.values() for count in allowed}
    return subject, next((known for known in counts if known == rule.get("count")), None)


def _readable(detail: Any) -> str:  # noqa: ANN401 — pydantic's ErrorDetails is a loose TypedDict
    path = ".".join(str(step) for step in detail["loc"]) or "policy"
    if detail["type"] == "extra_forbidden":
        nearest = get_close_matches(str(detail["loc"][-1]), _known_keys(detail["loc"]), n=1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        return f"{path}: unknown key{hint}"
    message = str(detail["msg"]).removeprefix("Value error, ")
    return f"{path}: {message}"


def _known_keys(path: tuple[str | int, ...]) -> list[str]:
    document: type[BaseModel] = _PolicyDocument
    if len(path) > 1:
        document = _RuleDocument if path[0] == "rules" else _ExemptDocument
    return list(document.model_fields)


def _not_everybody(networks: list[Network]) -> list[Network]:
    for version in (4, 6):
        own = [network for network in networks if network.version == version]
        # collapse_addresses wants them of one version, which its types cannot say.
        together: Any = ipaddress.collapse_addresses(own)
        if any(network.prefixlen == 0 for network in together):
            raise ValueError(f"together they exempt every IPv{version} address")
    return networks


def _duration(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError("a duration is text such as 60s, 10m, 24h or 30d")  # noqa: TRY004
    milliseconds = parse_duration_ms(value)
    if milliseconds == 0:
        raise ValueError("a duration must be longer than nothing")
    return milliseconds


def _duration_or_forever(value: object) -> int | None:
    if value == "forever":
        return None
    milliseconds = _duration(value)
    if milliseconds > LONGEST_BLOCK_MS:
        raise ValueError("at most 3650d; beyond that write forever")
    return milliseconds


def _window(milliseconds: int) -> int:
    if milliseconds > _LONGEST_WINDOW_MS:
        raise ValueError("at most 30d")
    return milliseconds


def _user(value: str) -> str:
    return user_key(value)


def _network(value: object) -> Network:
    if not isinstance(value, str):
        raise ValueError("an address or network in quotes, such as 10.0.0.0/8")  # noqa: TRY004
    try:
        network = ipaddress.ip_network(value)
    except ValueError as error:
        raise ValueError(f"not an address or network: {error}") from error
    if network.prefixlen == 0:
        raise ValueError("exempts every address: the policy would block none")
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_IPV4_IN_IPV6):
        raise ValueError("IPv4 written in IPv6 is compared as IPv4: write 10.0.0.0/8")
    return network


_Duration = Annotated[
    int,
    BeforeValidator(_duration),
    WithJsonSchema({"type": "string", "pattern": _DURATION_PATTERN}),
]
_Window = Annotated[_Duration, AfterValidator(_window)]
_BlockDuration = Annotated[
    int | None,
    BeforeValidator(_duration_or_forever),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "pattern": _DURATION_PATTERN}, {"const": "forever"}]}
    ),
]
_User = Annotated[str, AfterValidator(_user)]
_ExemptNetwork = Annotated[Any, BeforeValidator(_network), WithJsonSchema({"type": "string"})]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _RuleDocument(_Document):
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    subject: SubjectType
    count: Count
    threshold: Annotated[int, Field(ge=2, le=_LARGEST_THRESHOLD)]
    within: _Window
    reset_on_success: bool = False
    places: Places = "any"
    block: Annotated[list[_BlockDuration], Field(min_length=1)]

    def to_rule(self) -> Rule:
        return Rule(
            name=self.name,
            subject=self.subject,
            count=self.count,
            threshold=self.threshold,
            within_ms=self.within,
            block_ms=tuple(self.block),
            reset_on_success=self.reset_on_success,
            places=self.places,
        )


class _ExemptDocument(_Document):
    users: list[_User] = []
    ips: Annotated[list[_ExemptNetwork], AfterValidator(_not_everybody)] = []


class _PolicyDocument(_Document):
    rules: Annotated[list[_RuleDocument], Field(min_length=1)]
    forget_level_after: _Duration
    exempt: _ExemptDocument = _ExemptDocument()

    def to_policy(self) -> Policy:
        return Policy(
            rules=tuple(rule.to_rule() for rule in self.rules),
            forget_level_after_ms=self.forget_level_after,
            exempt=Exemptions(frozenset(self.exempt.users), tuple(self.exempt.ips)),
        )


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader takes the last of two equal keys in silence; half a rule would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 — PyYAML's signature
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands twice", node.start_mark
                )
        return super().construct_mapping(node, deep)
