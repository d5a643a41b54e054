"""Changes at the most difficult moments: no photo is left without its row, and no processor time is wasted."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.datasets.row_index import Entry, RowIndex
from pipeline.records import FileRef
from pipeline.sources import read_file as read_module
from pipeline.watching import verified_photo
from pipeline.watching.done_action import DoneAction
from pipeline.watching.scanner import STEP_FILES
from tests.support.watch_kit import OWNER, Clock, Watch, Watched, digest, put, refuse_renames_to, rows_in


def _once(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, meanwhile: Callable[[], object]) -> None:
    """Call `meanwhile` right after the first call of `owner.name`."""
    original = getattr(owner, name)
    calls: list[int] = []

    def call(*arguments: object, **named: object) -> object:
        result = original(*arguments, **named)
        calls.append(1)
        if len(calls) == 1:
            meanwhile()
        return result

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize("whole", [b"half and the other half", b"else"], ids=["grows", "is rewritten"])
def test_a_photo_that_changes_while_it_is_read_gets_one_row_for_what_it_became(
    watched: Watched, folder: Path, monkeypatch: pytest.MonkeyPatch, whole: bytes
) -> None:
    put(folder, "a.jpg", b"half")
    _once(monkeypatch, read_module, "_read_all", lambda: put(folder, "a.jpg", whole, 1_700_000_001))
    watched.drain()
    watched.drain()
    assert rows_in(folder / "labels") == [("a.jpg", digest(whole))]


def test_a_photo_replaced_between_its_reading_and_its_row_gets_a_row_for_what_lies_there(
    watched: Watched, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, "a.jpg", b"one")
    _once(monkeypatch, read_module, "_read_once", lambda: put(folder, "a.jpg", b"two", 1_700_000_001))
    watched.drain()
    watched.drain()
    assert rows_in(folder / "labels") == [("a.jpg", digest(b"two"))]


def _overwrite_at_the_last_moment(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Write another photo, as a camera may, between the last look at the old one's bytes and its move."""
    _once(monkeypatch, verified_photo, "_has_bytes", lambda: put(folder, "a.jpg", b"two", 1_700_000_001))


@pytest.mark.parametrize("done", ["delete", "move", "move far away"])
def test_a_photo_that_takes_the_name_of_a_moving_or_deleted_one_is_labelled_too(
    folder: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch, done: str
) -> None:
    watched = watch(done=done.partition(" ")[0])
    first = put(folder, "a.jpg", b"one")
    _overwrite_at_the_last_moment(monkeypatch, folder)
    if done == "move far away":
        refuse_renames_to(folder / "done", monkeypatch)
    watched.drain()
    watched.drain()
    assert rows_in(folder / "labels") == sorted([first, ("a.jpg", digest(b"two"))])
    assert list((folder / "inbox").glob("*.jpg")) == []
    kept = [path.read_bytes() for path in (folder / "done").glob("*")] if done != "delete" else [b"two"]
    assert kept == [b"two"]
    assert all(path.stat().st_mtime == 1_700_000_001 for path in (folder / "done").glob("*"))


def test_a_photo_that_cannot_be_moved_leaves_no_copy_at_each_attempt(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "done").mkdir()
    put(folder, "a.jpg", b"one")

    def read_only(_: Path, target: Path) -> None:
        is_far = folder / "done" in target.parents
        raise OSError(errno.EXDEV, "Invalid cross-device link") if is_far else OSError(errno.EROFS, "Read-only")

    monkeypatch.setattr(verified_photo, "rename_without_replacing", read_only)
    done_action = DoneAction(folder / "inbox", target=folder / "done", owner=OWNER)
    for _ in range(3):
        with pytest.raises(OSError, match="Read-only"):
            done_action.apply(Entry("a.jpg", b"\1" + bytes.fromhex(digest(b"one")), 3, 1_700_000_000_000_000))
    assert list((folder / "done").iterdir()) == [] and (folder / "inbox" / "a.jpg").exists()


def test_while_the_inbox_is_absent_the_loop_sleeps_whatever_is_waiting(
    watched: Watched, folder: Path, clock: Clock
) -> None:
    put(folder, "a.jpg", b"one")
    watched.daemon.turn()
    (folder / "inbox").rename(folder / "elsewhere")
    for _ in range(10):
        clock.advance(1.0)
        watched.daemon.turn()
        assert watched.daemon._pause_s() > 0.5
    (folder / "elsewhere").rename(folder / "inbox")
    watched.drain()
    assert rows_in(folder / "labels") == [("a.jpg", digest(b"one"))]


def test_an_index_that_cannot_be_read_is_retried_once_a_second_and_costs_no_photo(
    watched: Watched, folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried_s: list[float] = []

    def damaged(*_: object) -> dict[str, Entry]:
        tried_s.append(clock())
        raise OSError("the index of the labels: database disk image is malformed")

    row = put(folder, "a.jpg", b"one")
    monkeypatch.setattr(RowIndex, "find", damaged)
    began_s = clock()
    while clock() < began_s + 20.0:
        watched.daemon.turn()
        clock.advance(max(0.01, watched.daemon._pause_s()))
    assert len(tried_s) <= 21 and "malformed" in watched.stats.health
    monkeypatch.undo()
    watched.drain()
    assert rows_in(folder / "labels") == [row] and watched.stats.health == "ok"


def test_a_scan_that_is_requested_again_and_again_still_completes(watched: Watched, folder: Path, clock: Clock) -> None:
    for number in range(3 * STEP_FILES):
        (folder / "inbox" / f"{number}.jpg").touch()
    scanner = watched.scanner
    found: set[str] = set()
    for _ in range(20):
        found |= {ref.name for ref in scanner.step()}
        watched.schedule.request()
        clock.advance(0.1)
    assert len(found) == 3 * STEP_FILES and watched.schedule.completed >= 2


def test_a_photo_that_a_running_scan_has_passed_is_found_by_the_requested_one(
    watched: Watched, folder: Path, clock: Clock
) -> None:
    for number in range(2 * STEP_FILES):
        (folder / "inbox" / f"{number}.jpg").touch()
    first = {ref.name for ref in watched.scanner.step()}
    late = folder / "inbox" / "late"
    late.mkdir()
    (late / "a.jpg").touch()
    watched.schedule.request()
    found: set[str] = set(first)
    for _ in range(10):
        found |= {ref.name for ref in watched.scanner.step()}
        clock.advance(0.1)
    assert "late/a.jpg" in found


def test_a_photo_removed_before_it_has_settled_is_forgotten(watched: Watched, folder: Path) -> None:
    put(folder, "a.jpg", b"one")
    watched.daemon.turn()
    shutil.move(folder / "inbox" / "a.jpg", folder / "a.jpg")
    watched.drain()
    assert rows_in(folder / "labels") == [] and len(watched.pending_files) == 0


def test_a_photo_renamed_while_it_is_in_progress_gets_a_row_under_both_names_at_most(
    watched: Watched, folder: Path
) -> None:
    def rename_once(ref: FileRef) -> None:
        watched.labeller.before_read = lambda ref: None
        Path(ref.path).rename(folder / "inbox" / "b.jpg")

    put(folder, "a.jpg", b"one")
    watched.labeller.before_read = rename_once
    watched.drain()
    watched.drain()
    assert rows_in(folder / "labels") == [("b.jpg", digest(b"one"))]
