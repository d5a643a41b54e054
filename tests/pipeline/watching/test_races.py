"""Things that happen at the very moment when it hurts most: no photo is lost and no processor time wasted."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.records import FileRef
from pipeline.sources import read_file as read_module
from pipeline.tables.row_index import Entry, RowIndex
from pipeline.watching.done_action import DoneAction
from pipeline.watching.scanner import STEP_FILES, Scanner
from tests.support.watch_kit import Clock, Watched, digest, rows_in


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inbox").mkdir()
    return tmp_path


@pytest.fixture
def watched(folder: Path, clock: Clock) -> Iterator[Watched]:
    made = Watched(folder, clock)
    yield made
    made.kill()


def _put(folder: Path, name: str, content: bytes, mtime_s: int = 1_700_000_000) -> tuple[str, str]:
    path = folder / "inbox" / name
    path.write_bytes(content)
    os.utime(path, (mtime_s, mtime_s))
    return name, digest(content)


def _once(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, meanwhile: Callable[[], object]) -> None:
    """Let `meanwhile` happen right after the first call of `owner.name`."""
    original = getattr(owner, name)
    calls: list[int] = []

    def call(*arguments: object, **named: object) -> object:
        result = original(*arguments, **named)
        calls.append(1)
        if len(calls) == 1:
            meanwhile()
        return result

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize("whole", [b"half and the other half", b"else"], ids=["grows", "is written anew"])
def test_a_photo_that_changes_while_it_is_read_gets_one_row_for_what_it_became(
    watched: Watched, folder: Path, monkeypatch: pytest.MonkeyPatch, whole: bytes
) -> None:
    _put(folder, "a.jpg", b"half")
    _once(monkeypatch, read_module, "_read_all", lambda: _put(folder, "a.jpg", whole, 1_700_000_001))
    watched.drain()
    watched.drain()
    assert rows_in(folder / "labels") == [("a.jpg", digest(whole))]


def test_a_photo_replaced_between_its_reading_and_its_row_gets_a_row_for_what_lies_there(
    watched: Watched, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _put(folder, "a.jpg", b"one")
    _once(monkeypatch, read_module, "_read_once", lambda: _put(folder, "a.jpg", b"two", 1_700_000_001))
    watched.drain()
    watched.drain()
    assert rows_in(folder / "labels") == [("a.jpg", digest(b"two"))]


def _overwrite_at_the_last_moment(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """A camera writes another photo between the last look at the old one and its disposal."""
    _once(monkeypatch, Path, "lstat", lambda: _put(folder, "a.jpg", b"two", 1_700_000_001))


@pytest.mark.parametrize("done", ["delete", "move", "move far away"])
def test_a_photo_that_takes_the_name_of_one_being_disposed_of_is_labelled_too(
    folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch, done: str
) -> None:
    watched = Watched(folder, clock, done=done.partition(" ")[0])
    first = _put(folder, "a.jpg", b"one")
    _overwrite_at_the_last_moment(monkeypatch, folder)
    if done == "move far away":
        _refuse_renames_to(folder / "done", monkeypatch)
    watched.drain()
    watched.drain()
    assert rows_in(folder / "labels") == sorted([first, ("a.jpg", digest(b"two"))])
    assert list((folder / "inbox").glob("*.jpg")) == []
    kept = [path.read_bytes() for path in (folder / "done").glob("*")] if done != "delete" else [b"two"]
    assert kept == [b"two"]
    watched.kill()


def _refuse_renames_to(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def other_file_system(self: Path, target: Path) -> Path:
        if place in Path(target).parents and place not in self.parents:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", other_file_system)


def test_a_photo_that_cannot_be_taken_away_leaves_no_copy_at_each_try(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "done").mkdir()
    _put(folder, "a.jpg", b"")
    _refuse_renames_to(folder / "done", monkeypatch)
    rename = Path.rename

    def read_only(self: Path, target: Path) -> Path:
        if self.name == "a.jpg":
            if folder / "done" in Path(target).parents:
                return rename(self, target)
            raise OSError(errno.EROFS, "Read-only file system")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", read_only)
    done_action = DoneAction(folder / "inbox", target=folder / "done")
    for _ in range(3):
        with pytest.raises(OSError, match="Read-only"):
            done_action.dispose(Entry("a.jpg", b"\0broken", 0, 1_700_000_000_000_000))
    assert list((folder / "done").iterdir()) == [] and (folder / "inbox" / "a.jpg").exists()


def test_while_the_inbox_is_away_the_loop_rests_whatever_was_waiting_in_it(
    watched: Watched, folder: Path, clock: Clock
) -> None:
    _put(folder, "a.jpg", b"one")
    watched.daemon.turn()
    (folder / "inbox").rename(folder / "elsewhere")
    for _ in range(10):
        clock.advance(1.0)
        watched.daemon.turn()
        assert watched.daemon._pause_s() > 0.5
    (folder / "elsewhere").rename(folder / "inbox")
    watched.drain()
    assert rows_in(folder / "labels") == [("a.jpg", digest(b"one"))]


def test_an_index_that_cannot_be_read_is_asked_once_a_second_and_costs_no_photo(
    watched: Watched, folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def damaged(*_: object) -> dict[str, Entry]:
        asked.append(clock())
        raise OSError("the index of the labels: database disk image is malformed")

    row = _put(folder, "a.jpg", b"one")
    monkeypatch.setattr(RowIndex, "find", damaged)
    began_s = clock()
    while clock() < began_s + 20.0:
        watched.daemon.turn()
        clock.advance(max(0.01, watched.daemon._pause_s()))
    assert len(asked) <= 21 and "malformed" in watched.stats.health
    monkeypatch.undo()
    watched.drain()
    assert rows_in(folder / "labels") == [row] and watched.stats.health == "ok"


def test_a_listing_that_is_asked_for_again_and_again_still_comes_to_its_end(
    watched: Watched, folder: Path, clock: Clock
) -> None:
    for number in range(3 * STEP_FILES):
        (folder / "inbox" / f"{number}.jpg").touch()
    scanner: Scanner = watched.scanner
    found: set[str] = set()
    for _ in range(20):
        found |= {ref.name for ref in scanner.step()}
        scanner.request()
        clock.advance(0.1)
    assert len(found) == 3 * STEP_FILES and scanner.completed >= 2


def test_what_arrives_behind_a_listing_under_way_is_found_by_the_one_that_was_asked_for(
    watched: Watched, folder: Path, clock: Clock
) -> None:
    for number in range(2 * STEP_FILES):
        (folder / "inbox" / f"{number}.jpg").touch()
    first = {ref.name for ref in watched.scanner.step()}
    late = folder / "inbox" / "late"
    late.mkdir()
    (late / "a.jpg").touch()
    watched.scanner.request()
    found: set[str] = set(first)
    for _ in range(10):
        found |= {ref.name for ref in watched.scanner.step()}
        clock.advance(0.1)
    assert "late/a.jpg" in found


def test_a_photo_taken_away_between_the_listing_and_its_rest_leaves_nothing_behind(
    watched: Watched, folder: Path
) -> None:
    _put(folder, "a.jpg", b"one")
    watched.daemon.turn()
    shutil.move(folder / "inbox" / "a.jpg", folder / "a.jpg")
    watched.drain()
    assert rows_in(folder / "labels") == [] and len(watched.tracker) == 0


def test_a_photo_renamed_while_it_is_at_work_gets_a_row_under_both_names_at_most(
    watched: Watched, folder: Path
) -> None:
    def rename_once(ref: FileRef) -> None:
        watched.labeller.before_read = lambda ref: None
        Path(ref.path).rename(folder / "inbox" / "b.jpg")

    _put(folder, "a.jpg", b"one")
    watched.labeller.before_read = rename_once
    watched.drain()
    watched.drain()
    assert rows_in(folder / "labels") == [("b.jpg", digest(b"one"))]
