"""Health check of the Flink image: 0 if the process that this container runs answers.

A JobManager by its REST address, a TaskManager by its metrics: at the ports of config.yaml.
"""

import sys
import urllib.request
from pathlib import Path
from typing import Any

import yaml

_TIMEOUT_S = 3
_FIRST = Path("/proc/1/cmdline")
_CONFIG = Path("/opt/flink/conf/config.yaml")


def address(command: bytes, config: dict[str, Any]) -> str:
    """What to ask of the process with this command line; `config` is flat or nested, as Flink's."""
    if b"TaskManagerRunner" in command:
        return f"http://127.0.0.1:{_setting(config, 'metrics.reporter.prom.port', 9249)}/"
    return f"http://127.0.0.1:{_setting(config, 'rest.port', 8081)}/overview"


def _setting(config: Any, name: str, default: int) -> Any:  # noqa: ANN401 — YAML holds anything
    if name in config:
        return config[name]
    first, _, rest = name.partition(".")
    nested = config.get(first)
    return _setting(nested, rest, default) if rest and isinstance(nested, dict) else default


def main() -> int:
    """Asks once."""
    url = address(_FIRST.read_bytes(), yaml.safe_load(_CONFIG.read_text(encoding="utf-8")) or {})
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 — http above
            answer.read(1)
    except OSError as error:
        sys.stderr.write(f"{url}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
