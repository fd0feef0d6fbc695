import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from login_blocking.policy import duration_text, parse_duration_ms
from login_blocking.policy_file import PolicyError, parse_policy, policy_json_schema

FOLDER = Path(__file__).parents[3] / "policies"
POLICIES = sorted(FOLDER.glob("*.yaml"))
RULE = "{name: r, subject: user, count: failures, threshold: 5, within: 60s, block: [15m, forever]}"


def document(rule: str = RULE, rest: str = "") -> str:
    return f"rules: [{rule}]\nforget_level_after: 30d\n{rest}"


def errors(text: str) -> list[str]:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text)
    return caught.value.errors


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_every_shipped_policy_parses(path: Path) -> None:
    assert parse_policy(path.read_text(encoding="utf-8")).rules


def test_policy_is_read_in_milliseconds_and_normal_form() -> None:
    policy = parse_policy(document(rest="exempt: {users: [' Root'], ips: [127.0.0.1/32]}"))

    assert policy.rules[0].within_ms == 60_000
    assert policy.rules[0].block_ms == (900_000, None)
    assert policy.exempt.users == {"root"}
    assert [str(network) for network in policy.exempt.networks] == ["127.0.0.1/32"]


def test_every_error_is_told_at_once_with_its_path() -> None:
    rule = RULE.replace("threshold: 5", "threshold: 1").replace("60s", "60").replace("15m", "0s")
    found = errors(document(rule, "extra: 1\nexempt: {ips: [0.0.0.0/0]}"))

    assert [error.split(":")[0] for error in sorted(found)] == [
        "exempt.ips.0",
        "extra",
        "rules.0.block.0",
        "rules.0.threshold",
        "rules.0.within",
    ]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("name: r", "name: operator", "kept for blocks made by hand"),
        ("name: r", "name: R", "rules.0.name"),
        ("count: failures", "count: distinct_users", "count: of a subject user"),
        ("subject: user", "subject: host", "rules.0.subject"),
        ("threshold: 5", "threshold: 1", "rules.0.threshold"),
        ("threshold: 5", "threshold: 1001", "rules.0.threshold"),
        ("threshold: 5", "threshold: '5'", "rules.0.threshold"),
        ("threshold: 5", "treshold: 5", "rules.0.treshold"),
        ("within: 60s", "within: 2592000001ms", "at most 30d"),
        ("within: 60s", "within: forever", "not a duration"),
        ("[15m, forever]", "[]", "rules.0.block"),
        ("count: failures", "count: distinct_ips, reset_on_success: true", "reset_on_success"),
        ("threshold: 5", "threshold: 5, threshold: 6", "stands twice"),
        ("within: 60s", "within: 2024-13-45", "not YAML"),
    ],
)
def test_rule_that_cannot_be_meant_is_refused(old: str, new: str, told: str) -> None:
    assert told in "\n".join(errors(document(RULE.replace(old, new))))


@pytest.mark.parametrize("text", ["", "[]", "rules: [", "rules: []\nforget_level_after: 30d"])
def test_what_is_no_policy_is_refused(text: str) -> None:
    assert errors(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "policy: empty; it wants rules and forget_level_after"),
        ("# rules:", "policy: empty; it wants rules and forget_level_after"),
        ("- rules", "policy: not a mapping that holds rules and forget_level_after"),
    ],
)
def test_what_holds_no_fields_is_told_in_words(text: str, told: str) -> None:
    with pytest.raises(PolicyError) as refused:
        parse_policy(text)
    assert refused.value.errors == [told]


def test_two_rules_of_one_name_are_refused() -> None:
    assert "another rule is named 'r' too" in errors(document(f"{RULE}, {RULE}"))[0]


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("500ms", 500),
        ("60s", 60_000),
        ("10m", 600_000),
        ("24h", 86_400_000),
        ("30d", 2_592_000_000),
    ],
)
def test_duration_is_a_whole_number_and_a_unit(text: str, milliseconds: int) -> None:
    assert parse_duration_ms(text) == milliseconds
    assert parse_duration_ms(duration_text(milliseconds)) == milliseconds


@pytest.mark.parametrize("text", ["", "60", "s", "-1s", "1.5h", "1 s", "1S", "1w", "²s", "1s1m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration_ms(text)


def test_errors_between_fields_come_together_with_those_of_fields() -> None:
    text = """
rules:
  - {name: operator, subject: ip, count: distinct_ips, threshold: 1, within: 60s, block: [1h]}
  - {name: twice, subject: ip, count: distinct_users, threshold: 3, within: 60s, block: [9999d],
     reset_on_success: true}
  - {name: twice, subject: user, count: failures, threshold: 3, within: 60s, block: []}
forget_level_after: never
"""

    with pytest.raises(PolicyError) as refused:
        parse_policy(text)

    paths = {error.partition(":")[0] for error in refused.value.errors}
    assert paths == {
        "rules.0.threshold", "rules.0.name", "rules.0.count", "rules.1.block.0",
        "rules.1.reset_on_success", "rules.1.name", "rules.2.name", "rules.2.block",
        "forget_level_after",
    }  # fmt: skip


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.yaml")), ids=lambda file: file.stem)
def test_shipped_policies_are_right_and_name_their_schema(file: Path) -> None:
    assert parse_policy(file.read_text()).rules
    assert file.read_text().startswith("# yaml-language-server: $schema=policy.schema.json\n")


def test_shipped_schema_is_the_one_of_the_code() -> None:
    shipped = json.loads((FOLDER / "policy.schema.json").read_text())

    assert shipped == policy_json_schema()


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "rules: !!bool foo",
        "rules: !!int x",
        "rules: !!timestamp x",
        "rules: !!set [1]",
        "? [a, b]\n: 1",
        "? {a: b}\n: 1",
        "rules: !!python/object/apply:os.system [ls]",
        "rules: &a [*a, *a]",
        "x" * 300_000,
        "\x00",
    ],
)
def test_what_yaml_cannot_mean_is_refused(text: str) -> None:
    with pytest.raises(PolicyError):
        parse_policy(text)


@given(st.text(max_size=200))
def test_any_text_is_a_policy_or_refused(text: str) -> None:
    with pytest.raises(PolicyError):
        parse_policy(text)


def test_an_unknown_key_names_the_nearest_known_one() -> None:
    text = document().replace("within:", "whithin:").replace("forget_level_after", "forget_level")
    with pytest.raises(PolicyError) as refused:
        parse_policy(text)
    assert "rules.0.whithin: unknown key; did you mean within?" in refused.value.errors
    assert "forget_level: unknown key; did you mean forget_level_after?" in refused.value.errors


@pytest.mark.parametrize(
    "ips", ["[0.0.0.0/1, 128.0.0.0/1]", '["::/1", "8000::/1"]', '["::ffff:10.0.0.0/104"]']
)
def test_exemptions_that_cover_everybody_or_nobody_are_refused(ips: str) -> None:
    with pytest.raises(PolicyError, match=r"exempt\.ips"):
        parse_policy(document(rest=f"exempt: {{ips: {ips}}}"))
