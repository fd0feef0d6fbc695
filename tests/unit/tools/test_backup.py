"""What a backup and a restore refuse before they touch anything."""

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from tools.backup import BackupError, restore
from tools.stack.layout import Ports


def backup(tmp_path: Path) -> Path:
    folder = tmp_path / "backup"
    folder.mkdir()
    (folder / "secrets.json").write_text("{}")
    return folder


def test_restore_from_what_is_no_backup_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="holds no backup"):
        restore(tmp_path / "nothing", tmp_path / "stack", Ports())


def test_restore_into_a_folder_that_is_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="there already"):
        restore(backup(tmp_path), tmp_path, Ports())


@pytest.mark.enable_socket
def test_restore_beside_a_stack_that_runs_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    """With the same port and password the running one would be written to."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = replace(Ports(), postgres=taken.getsockname()[1])
        with pytest.raises(BackupError, match=r"for postgres is taken by .*: make down first"):
            restore(backup(tmp_path), tmp_path / "stack", ports)
    assert not (tmp_path / "stack").exists()
