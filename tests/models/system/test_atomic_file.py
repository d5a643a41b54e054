"""A file is replaced whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.system.atomic_file import replacing, write_atomically


def test_a_missing_folder_is_created_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    write_atomically(path, b"content")
    assert path.read_bytes() == b"content"
    assert [found.name for found in path.parent.iterdir()] == ["file"]


def test_the_new_file_has_the_permissions_of_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch(0o640)
    write_atomically(path, b"new")
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.read_bytes() == b"new"


def test_after_a_failed_write_the_old_file_stays_and_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="disk"), replacing(path) as stream:
        stream.write(b"half")
        raise OSError("the disk failed")
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["file"]
