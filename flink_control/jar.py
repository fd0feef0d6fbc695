"""The launcher jar: told from other jars, and given settings of its own."""

import json
import zipfile
from pathlib import Path
from typing import Any, Final

_ENTRY: Final = "job/flink_jobs/block_detector.py"
_SETTINGS: Final = "job/flink_jobs/carried/settings.json"
_MAIN_CLASS: Final = "Main-Class: launcher.Launcher"


class WrongJarError(Exception):
    """A file that is not the detector's launcher jar; the message says what it is instead."""


def check_jar(jar: Path) -> None:
    """Raises WrongJarError for whatever is not the launcher jar."""
    if not jar.is_file():
        raise WrongJarError(f"there is no jar {jar}; make setup builds it")
    try:
        with zipfile.ZipFile(jar) as content:
            names = set(content.namelist())
            manifest = (
                content.read("META-INF/MANIFEST.MF").decode(errors="replace")
                if "META-INF/MANIFEST.MF" in names
                else ""
            )
    except zipfile.BadZipFile as error:
        raise WrongJarError(f"{jar} is no jar: {error}") from error
    if _MAIN_CLASS not in manifest or _ENTRY not in names:
        raise WrongJarError(
            f"{jar} is another program's jar, not the detector's, which is "
            "block-detector.jar (make setup builds it)"
        )


def with_settings(source: Path, target: Path, settings: dict[str, Any]) -> Path:
    """A copy of the launcher jar that carries settings of its own."""
    with zipfile.ZipFile(source) as jar, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as copy:
        for entry in jar.infolist():
            if entry.filename != _SETTINGS:
                copy.writestr(entry, jar.read(entry))
        copy.writestr(_SETTINGS, json.dumps(settings))
    return target
