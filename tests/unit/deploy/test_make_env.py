"""tools/make-env: random secrets, for the owner's eyes, and never in place of one that is there."""

import re
import shutil
import stat
import subprocess
from base64 import urlsafe_b64decode
from pathlib import Path

import pytest

from tests.support.services import REPOSITORY

NAMES = set(re.findall(r"^(\w+)=$", (REPOSITORY / ".env.example").read_text(), re.MULTILINE))


def made(file: Path, *kind: str) -> dict[str, str]:
    command = ["sh", str(REPOSITORY / "tools" / "make-env"), str(file), *kind]
    subprocess.run(command, check=True, capture_output=True)
    lines = file.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_every_secret_gets_192_random_bits_that_a_url_takes(tmp_path: Path) -> None:
    one, other = made(tmp_path / "one"), made(tmp_path / "other")
    assert one.keys() == other.keys() == NAMES
    for name, value in one.items():
        assert re.fullmatch(r"[A-Za-z0-9_-]+", value)
        assert value != other[name]
        if name != "KAFKA_CLUSTER_ID":
            assert len(value) == 32


def test_kafka_takes_its_cluster_id(tmp_path: Path) -> None:
    """16 bytes in 22 letters; a dash in front would pass for an option."""
    value = made(tmp_path / "env")["KAFKA_CLUSTER_ID"]
    assert len(urlsafe_b64decode(value + "==")) == 16
    assert not value.startswith("-")


def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    made(tmp_path / "env")
    assert stat.S_IMODE((tmp_path / "env").stat().st_mode) == 0o600


def test_kubernetes_has_no_grafana_and_its_file_says_what_it_is(tmp_path: Path) -> None:
    assert made(tmp_path / "env", "kubernetes").keys() == NAMES - {"GRAFANA_ADMIN_PASSWORD"}
    assert "make k8s-secrets" in (tmp_path / "env").read_text().splitlines()[0]
    made(tmp_path / "other", "compose")
    assert "docker compose" in (tmp_path / "other").read_text().splitlines()[0]
    with pytest.raises(subprocess.CalledProcessError) as refused:
        made(tmp_path / "third", "nomad")
    assert refused.value.returncode == 2
    assert not (tmp_path / "third").exists()


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    made(tmp_path / "env")
    before = (tmp_path / "env").read_bytes()
    made(tmp_path / "env")
    assert (tmp_path / "env").read_bytes() == before


def test_what_is_missing_is_added_and_what_is_there_stays(tmp_path: Path) -> None:
    file = tmp_path / "env"
    # The last line without its end, and one that is empty.
    file.write_text("# mine\nREDIS_ADMIN_PASSWORD=\nLOGIN_API_WORKERS=4\nPOSTGRES_PASSWORD=chosen")
    values = made(file)
    assert values.keys() == NAMES | {"LOGIN_API_WORKERS"}
    assert values["POSTGRES_PASSWORD"] == "chosen"
    assert values["REDIS_ADMIN_PASSWORD"]
    assert file.read_text().startswith("# mine\n")
    assert len(re.findall("^REDIS_ADMIN_PASSWORD=", file.read_text(), re.MULTILINE)) == 1


def test_nothing_is_left_beside_the_file(tmp_path: Path) -> None:
    made(tmp_path / "env")
    assert [path.name for path in tmp_path.iterdir()] == ["env"]


def test_git_and_docker_pass_it_over() -> None:
    ignored = subprocess.run(["git", "check-ignore", ".env"], cwd=REPOSITORY, check=False)
    assert ignored.returncode == 0
    assert shutil.which("git")
    # Docker's list names what goes in, if it begins by leaving all out.
    assert re.search(
        r"^(\*|\.env\*?|\*\*/\.env\*?)$", (REPOSITORY / ".dockerignore").read_text(), re.MULTILINE
    )
