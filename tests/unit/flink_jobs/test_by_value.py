import pickle
import subprocess
import sys

from flink_jobs import by_value
from flink_jobs.redis_writer import RedisBlockWriter
from login_blocking.policy import Rule

RULE = Rule("user-failures", "user", "failures", 5, 60_000, (None,))


def test_object_is_built_from_the_shipped_sources_not_from_what_is_imported() -> None:
    sources = by_value.loaded_sources()
    sources["login_blocking.policy"] += "\nMARK = 'shipped'\n"

    rule = by_value.build(
        sources,
        "login_blocking.policy",
        "Rule",
        pickle.dumps(("r", "user", "failures", 2, 1_000, (5,))),
    )

    assert type(rule) is not Rule
    assert rule.duration_ms(3) == 5
    assert sys.modules["login_blocking.policy"].Rule is Rule


def test_arguments_are_of_the_shipped_classes() -> None:
    sources = by_value.loaded_sources()
    sources["login_blocking.policy"] += "\ndef same_class(rule):\n    return type(rule) is Rule\n"

    arguments = pickle.dumps((RULE,))

    assert by_value.build(sources, "login_blocking.policy", "same_class", arguments) is True


def test_sources_of_packages_and_modules_are_told_apart() -> None:
    sources = by_value.loaded_sources()

    assert "login_blocking." in sources
    assert "flink_jobs.redis_writer" in sources
    assert RedisBlockWriter.__module__ in sources


def test_module_needs_nothing_but_the_standard_library() -> None:
    code = (
        "import flink_jobs.by_value, sys; print('redis' in sys.modules, 'pyflink' in sys.modules)"
    )

    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )

    assert ran.stdout.split() == ["False", "False"]
