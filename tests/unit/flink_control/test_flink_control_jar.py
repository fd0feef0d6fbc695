import json
import zipfile
from pathlib import Path

import pytest

from flink_control.jar import WrongJarError, check_jar, with_settings

ENTRY = "job/flink_jobs/block_detector.py"
SETTINGS = "job/flink_jobs/carried/settings.json"
MANIFEST = "Manifest-Version: 1.0\r\nMain-Class: launcher.Launcher\r\n"


def make_jar(target: Path, content: dict[str, str]) -> Path:
    with zipfile.ZipFile(target, "w") as jar:
        for name, text in content.items():
            jar.writestr(name, text)
    return target


def test_launcher_jar_is_fine(tmp_path: Path) -> None:
    check_jar(make_jar(tmp_path / "a.jar", {"META-INF/MANIFEST.MF": MANIFEST, ENTRY: ""}))


@pytest.mark.parametrize(
    "content",
    [
        {},
        {ENTRY: ""},
        {"META-INF/MANIFEST.MF": MANIFEST},
        {"META-INF/MANIFEST.MF": "Main-Class: other.Program\r\n", ENTRY: ""},
    ],
)
def test_other_jar_is_refused(tmp_path: Path, content: dict[str, str]) -> None:
    with pytest.raises(WrongJarError, match="another program's jar"):
        check_jar(make_jar(tmp_path / "a.jar", content))


def test_what_is_no_jar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jar").write_text("no zip")

    with pytest.raises(WrongJarError, match="is no jar"):
        check_jar(tmp_path / "a.jar")
    with pytest.raises(WrongJarError, match="there is no jar"):
        check_jar(tmp_path / "none.jar")


def test_settings_take_the_place_of_those_carried_before(tmp_path: Path) -> None:
    source = make_jar(tmp_path / "a.jar", {ENTRY: "code", SETTINGS: '{"old": 1}'})

    target = with_settings(source, tmp_path / "b.jar", {"new": 2})

    with zipfile.ZipFile(target) as jar:
        assert sorted(jar.namelist()) == sorted([ENTRY, SETTINGS])
        assert json.loads(jar.read(SETTINGS)) == {"new": 2}
        assert jar.read(ENTRY) == b"code"
