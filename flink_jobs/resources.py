"""Files that the job carries beside its sources: inside the launcher jar, or from a checkout."""

import pkgutil
from pathlib import Path
from typing import Final

_CHECKOUT: Final = Path(__file__).parent.parent
_IN_CHECKOUT: Final = {
    "apply_block.lua": _CHECKOUT / "redis" / "apply_block.lua",
    "heartbeat.lua": _CHECKOUT / "redis" / "heartbeat.lua",
    "policies/default.yaml": _CHECKOUT / "policies" / "default.yaml",
}


def resource(name: str) -> str:
    """The text of one carried file; raises KeyError for a name that is none."""
    carried = _carried(name)
    return _IN_CHECKOUT[name].read_text(encoding="utf-8") if carried is None else carried


def optional_resource(name: str) -> str | None:
    """The text of a file that only some jars carry, else None."""
    return _carried(name)


def _carried(name: str) -> str | None:
    try:
        data = pkgutil.get_data("flink_jobs", f"carried/{name}")
    except OSError:
        return None
    return None if data is None else data.decode()
