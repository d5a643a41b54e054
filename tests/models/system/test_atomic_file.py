"""A file is replaced in one step, through no link, and nothing of a killed writer stays (case 17)."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from models.system.atomic_file import remove_stale_temporaries, replace_quickly, replacing, write_atomically

WRITER = """
import sys, pathlib
from models.system.atomic_file import replacing
with replacing(pathlib.Path(sys.argv[1])) as stream:
    stream.write(b"half")
    stream.flush()
    print(flush=True)
    sys.stdin.read()
"""


def start_writer(path: Path) -> subprocess.Popen[bytes]:
    """Return a process that has written half of `path`, and waits."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=os.getcwd()
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    return writer


def end(writer: subprocess.Popen[bytes]) -> None:
    """Let `writer` go on to its end."""
    writer.communicate(timeout=60)


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_a_new_file_respects_the_umask_and_a_replaced_file_keeps_its_permissions(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "new", b"1")
        replace_quickly(tmp_path / "quick", b"1")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE((tmp_path / "quick").stat().st_mode) == 0o666 & ~mask
    (tmp_path / "new").chmod(0o4640)
    write_atomically(tmp_path / "new", b"2")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_a_killed_writers_file_is_removed_by_the_next_writer_and_a_living_writers_is_not(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    killed = start_writer(path)
    killed.kill()
    end(killed)
    assert len(list(tmp_path.iterdir())) == 1
    living = start_writer(path)
    assert len(list(tmp_path.iterdir())) == 1
    write_atomically(path, b"other")
    assert len(list(tmp_path.iterdir())) == 2
    end(living)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"half"


def test_only_files_named_as_ours_are_removed(tmp_path: Path) -> None:
    token = "0123456789abcdef"
    kept = [".out.csv.tmp", f".out.csv.{token}.tmp.bak", f"out.csv.{token}.tmp", f".other.csv.{token}.tmp"]
    for name in kept:
        (tmp_path / name).touch()
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / f".out.csv.{token}.tmp").symlink_to("target")
    os.mkfifo(tmp_path / f".out.csv.{token[::-1]}.tmp")
    before = sorted(tmp_path.iterdir())
    remove_stale_temporaries(tmp_path / "out.csv")
    assert sorted(tmp_path.iterdir()) == before


def test_a_link_planted_under_the_temporary_name_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / f".out.csv.{'0' * 16}.tmp").symlink_to(victim)
    monkeypatch.setattr("secrets.token_hex", lambda count: "0" * 2 * count)
    with pytest.raises(FileExistsError), replacing(tmp_path / "out.csv"):
        pass
    assert victim.read_bytes() == b"precious"


def test_no_two_writers_have_the_same_temporary_name(tmp_path: Path) -> None:
    names: set[str] = set()
    for _ in range(3):
        with replacing(tmp_path / "out.csv"):
            names.update(path.name for path in tmp_path.glob(".*"))
    assert len(names) == 3


def test_a_name_of_255_bytes_can_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 127 + "x")
    write_atomically(path, b"content")
    assert path.read_bytes() == b"content"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), replacing(path) as stream:
        stream.write(b"new")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"
