"""Health check of the Flink image: 0 if the Flink process of this container answers.

A JobManager by its REST address, a TaskManager by its metrics: at the ports of config.yaml.
"""

import sys
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

_TIMEOUT_S = 3
_PROCESSES = Path("/proc")
_CONFIG = Path("/opt/flink/conf/config.yaml")


def address(commands: Iterable[bytes], config: dict[str, Any]) -> str:
    """What to ask where these command lines run; `config` is flat or nested, as Flink's."""
    if any(b"TaskManagerRunner" in command for command in commands):
        return f"http://127.0.0.1:{_setting(config, 'metrics.reporter.prom.port', 9249)}/"
    return f"http://127.0.0.1:{_setting(config, 'rest.port', 8081)}/overview"


def _setting(config: Any, name: str, default: int) -> Any:  # noqa: ANN401 — YAML holds anything
    if name in config:
        return config[name]
    first, _, rest = name.partition(".")
    nested = config.get(first)
    return _setting(nested, rest, default) if rest and isinstance(nested, dict) else default


def _commands() -> Iterator[bytes]:
    # All, not the first alone: that may be an init process.
    for file in _PROCESSES.glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield file.read_bytes()


def main() -> int:
    """Asks once."""
    url = address(_commands(), yaml.safe_load(_CONFIG.read_text(encoding="utf-8")) or {})
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 — http above
            answer.read(1)
    except OSError as error:
        sys.stderr.write(f"{url}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
