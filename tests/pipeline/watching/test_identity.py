"""A photo is its bytes: none is moved, deleted or passed over because another had its name, size and time (case 1)."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.datasets.append_dataset import AppendDataset
from pipeline.datasets.row_index import Entry
from pipeline.errors import OutputError, UsageError
from pipeline.system import exclusive_rename
from pipeline.tables.part_store import state_folder
from pipeline.watching import verified_photo
from pipeline.watching.done_action import DoneAction, Outcome
from tests.support.watch_kit import OWNER, Watch, Watched, digest, put, rows_in


def _entry(name: str, content: bytes) -> Entry:
    return Entry(name, b"\1" + bytes.fromhex(digest(content)), len(content), 1_700_000_000_000_000)


def _photos(folder: Path) -> set[bytes]:
    return {path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".watch")}


@pytest.mark.parametrize("done", ["keep", "move", "delete"])
def test_an_overwrite_of_equal_size_and_time_gets_its_row(folder: Path, watch: Watch, done: str) -> None:
    """Case 1: a camera with a dead clock writes BMPs of one size."""
    watched = watch(done=done)
    first = put(folder, "a.bmp", b"one")
    watched.drain()
    second = put(folder, "a.bmp", b"two")
    watched.drain()
    watched.drain()
    assert rows_in(folder / "labels") == sorted([first, second])
    if done == "move":
        assert _photos(folder / "done") == {b"one", b"two"}


@pytest.mark.parametrize("done", ["move", "delete"])
def test_an_overwrite_while_the_daemon_is_down_and_its_index_lost_is_labelled_before_it_goes(
    folder: Path, watch: Watch, done: str
) -> None:
    """Case 1: without an index there is neither inode nor ctime to compare; the bytes are."""
    before = watch()
    first = put(folder, "a.bmp", b"one")
    before.drain()
    before.kill()
    for path in state_folder(folder / "labels").glob("index.sqlite*"):
        path.unlink()
    second = put(folder, "a.bmp", b"two")
    after = watch(done=done)
    after.drain()
    after.drain()
    assert rows_in(folder / "labels") == sorted([first, second])
    assert _photos(folder / "inbox") == set()
    assert done == "delete" or _photos(folder / "done") == {b"two"}


def test_two_photos_that_take_turns_under_one_name_each_go_with_their_own_row(folder: Path, watch: Watch) -> None:
    """Case 1: after a lost index, one name, size and time has two rows; only the bytes tell which."""
    before = watch()
    rows = []
    for content in (b"one", b"two"):
        rows.append(put(folder, "a.bmp", content))
        before.drain()
    before.kill()
    for path in state_folder(folder / "labels").glob("index.sqlite*"):
        path.unlink()
    put(folder, "a.bmp", b"one")
    after = watch(done="move")
    after.drain()
    assert rows_in(folder / "labels") == sorted(rows) and _photos(folder / "done") == {b"one"}


def test_an_index_of_an_earlier_version_is_built_again(folder: Path, watch: Watch) -> None:
    """Case 1: an index without inode and ctime."""
    before = watch()
    row = put(folder, "a.bmp", b"one")
    before.drain()
    before.kill()
    index = state_folder(folder / "labels") / "index.sqlite"
    for path in index.parent.glob("index.sqlite*"):
        path.unlink()
    with sqlite3.connect(index) as database:
        database.execute("CREATE TABLE photo (name TEXT, identity BLOB, size_bytes INTEGER, mtime_us INTEGER)")
        database.execute("INSERT INTO photo VALUES ('a.bmp', x'01', 3, 1700000000000000)")
    database.close()
    after = watch()
    after.drain()
    assert rows_in(folder / "labels") == [row] and after.labeller.seen == []


@pytest.mark.parametrize("done", ["delete", "move"])
@pytest.mark.parametrize("moment", ["before it is hashed", "after it was hashed"])
def test_a_photo_that_replaces_anothers_name_at_the_last_moment_is_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch, done: str, moment: str
) -> None:
    """Case 1: equal size and time again, between the check and the rename."""
    put(folder, "a.bmp", b"one")
    has_bytes = verified_photo._has_bytes

    def replace(*arguments: object) -> bool:
        def other() -> None:
            (folder / "inbox" / "a.bmp").unlink()
            put(folder, "a.bmp", b"two")

        if moment == "before it is hashed":
            other()
        is_same = has_bytes(*arguments)  # type: ignore[arg-type]  # as they came
        if moment == "after it was hashed":
            other()
        return is_same

    monkeypatch.setattr(verified_photo, "_has_bytes", replace)
    done_action = DoneAction(
        folder / "inbox", done == "delete", folder / "done" if done == "move" else None, owner=OWNER
    )
    assert done_action.apply(_entry("a.bmp", b"one")) is Outcome.OTHER_PHOTO
    assert (folder / "inbox" / "a.bmp").read_bytes() == b"two"
    assert _photos(folder / "inbox") == {b"two"}


def test_of_two_photos_that_take_the_name_in_turn_none_is_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Case 1: while a photo that is not the row's is being put back, an even newer one has its name."""
    put(folder, "a.bmp", b"one")
    rename = exclusive_rename.rename_without_replacing
    calls: list[Path] = []

    def interrupted(path: Path, new_path: Path) -> None:
        calls.append(path)
        if len(calls) == 1:
            (folder / "inbox" / "a.bmp").unlink()
            put(folder, "a.bmp", b"two")
        rename(path, new_path)
        if len(calls) == 1:
            put(folder, "a.bmp", b"six")

    monkeypatch.setattr(verified_photo, "rename_without_replacing", interrupted)
    assert DoneAction(folder / "inbox", delete=True, owner=OWNER).apply(_entry("a.bmp", b"one")) is Outcome.OTHER_PHOTO
    assert {path.name: path.read_bytes() for path in (folder / "inbox").iterdir()} == {
        "a.bmp": b"six",
        "a.1.bmp": b"two",
    }


@pytest.mark.parametrize("done", ["delete", "move"])
def test_a_photo_that_a_program_still_writes_stays_until_it_is_closed(folder: Path, done: str) -> None:
    """Case 1: bytes may still follow through a descriptor that is open, whatever the name."""
    put(folder, "a.bmp", b"one")
    done_action = DoneAction(
        folder / "inbox", done == "delete", folder / "done" if done == "move" else None, owner=OWNER
    )
    with (folder / "inbox" / "a.bmp").open("r+b"), pytest.raises(OSError, match="open for writing"):
        done_action.apply(_entry("a.bmp", b"one"))
    assert _photos(folder / "inbox") == {b"one"}
    assert done_action.apply(_entry("a.bmp", b"one")) is Outcome.DONE


def test_a_file_that_appears_in_the_target_folder_is_never_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two watchers may move photos into one folder: the name is taken between the look and the rename."""
    put(folder, "a.bmp", b"one")
    monkeypatch.setattr("pipeline.watching.done_action._has_content", lambda *_: False)
    (folder / "done").mkdir()
    (folder / "done" / "a.bmp").write_bytes(b"foreign")
    assert (
        DoneAction(folder / "inbox", target=folder / "done", owner=OWNER).apply(_entry("a.bmp", b"one")) is Outcome.DONE
    )
    assert _photos(folder / "done") == {b"foreign", b"one"}


@pytest.mark.parametrize("done", ["delete", "move"])
@pytest.mark.parametrize("length", [245, 246, 255])
def test_long_names_are_moved_and_deleted_as_others_are(folder: Path, watch: Watch, done: str, length: int) -> None:
    """Case 36: a claim name of name and ending was too long for the file system."""
    watched = watch(done=done)
    name = "n" * (length - 4) + ".jpg"
    (folder / "done").mkdir()
    (folder / "done" / name).write_bytes(b"of the same name")
    row = put(folder, name, b"one")
    watched.drain()
    assert rows_in(folder / "labels") == [row] and watched.stats.health == "ok"
    assert _photos(folder / "inbox") == set()
    assert done == "delete" or _photos(folder / "done") == {b"of the same name", b"one"}


def test_an_inbox_that_is_also_the_target_by_another_path_keeps_its_photos(folder: Path) -> None:
    put(folder, "a.bmp", b"one")
    (folder / "done").symlink_to(folder / "inbox")
    with pytest.raises(OSError, match="by another path"):
        DoneAction(folder / "inbox", target=folder / "done", owner=OWNER).apply(_entry("a.bmp", b"one"))
    assert _photos(folder / "inbox") == {b"one"}


def test_where_the_kernel_cannot_check_and_rename_at_once_no_file_is_replaced_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exclusive_rename, "_renamed_by_kernel", lambda *_: errno.EINVAL)
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"two")
    with pytest.raises(FileExistsError):
        exclusive_rename.rename_without_replacing(tmp_path / "a", tmp_path / "b")
    exclusive_rename.rename_without_replacing(tmp_path / "a", tmp_path / "c")
    assert _photos(tmp_path) == {b"one", b"two"}


def _unreadable(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> Callable[[], AppendDataset]:
    (part,) = watched.labels.glob("date=*/part-*.parquet")
    opened = Path.open

    def refuse(self: Path, *arguments: object, **named: object) -> object:
        if self == part:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return opened(self, *arguments, **named)  # type: ignore[call-overload]  # as they came

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr("pipeline.tables.reader.read_parquet", lambda path: refuse(path))
    return lambda: AppendDataset(watched.labels, "parquet", 1)


def test_a_part_that_cannot_be_read_now_stops_the_start_and_keeps_its_rows(
    folder: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 12: unreadable is an error, not damage."""
    watched = watch()
    row = put(folder, "a.jpg", b"one")
    watched.drain()
    watched.kill()
    for path in state_folder(watched.labels).glob("index.sqlite*"):
        path.unlink()
    start = _unreadable(watched, monkeypatch)
    with pytest.raises(OSError, match="cannot be read"):
        start()
    monkeypatch.undo()
    assert rows_in(watched.labels) == [row]


def test_a_part_of_another_program_stops_the_start_and_stays(folder: Path, watch: Watch) -> None:
    """Case 12: a file of a foreign writer is none of our damaged ones."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    watched = watch()
    put(folder, "a.jpg", b"one")
    watched.drain()
    watched.kill()
    (part,) = watched.labels.glob("date=*/part-*.parquet")
    foreign = part.with_name("part-00009.parquet")
    pq.write_table(pa.table({"other": [1]}), foreign)
    with pytest.raises(UsageError):
        watch()
    assert foreign.exists() and part.exists()


def test_labels_of_another_width_are_refused_in_one_sentence(folder: Path, watch: Watch) -> None:
    """Small case: --topk changed on a watched folder."""
    watched = watch()
    put(folder, "a.jpg", b"one")
    watched.drain()
    watched.kill()
    with pytest.raises(UsageError, match="holds 1 labels a photo, not 3; use --topk 1"):
        AppendDataset(watched.labels, "parquet", 3)


def test_labels_that_are_not_mounted_are_not_taken_for_labels_that_are_gone(folder: Path, watch: Watch) -> None:
    """Cause 3: nothing there is not nothing left; the state beside the labels knows."""
    watched = watch()
    put(folder, "a.jpg", b"one")
    watched.drain()
    watched.kill()
    watched.labels.rename(folder / "unmounted")
    watched.labels.mkdir()
    with pytest.raises(OutputError, match="is another disk to be mounted"):
        AppendDataset(watched.labels, "parquet", 1)
    watched.labels.rmdir()
    (folder / "unmounted").rename(watched.labels)
    AppendDataset(watched.labels, "parquet", 1).close()


def test_a_fifo_or_a_link_as_the_marker_is_never_waited_for(folder: Path, watch: Watch) -> None:
    """Case 18: opening a FIFO waits for a reader, for ever."""
    watched = watch()
    marker = watched.event_supervisor._inbox.marker
    marker.unlink()
    os.mkfifo(marker)
    with pytest.raises(OSError, match=r"."):
        watched.event_supervisor._inbox.touch_marker()
    watched.run_for(2)
    assert "was replaced by something else" in watched.stats.health
    # With a reader on its other end a FIFO can be opened, and is no marker either.
    reader = os.open(marker, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(OSError, match="no regular file"):
        watched.event_supervisor._inbox.touch_marker()
    os.close(reader)
    marker.unlink()
    marker.symlink_to(folder / "elsewhere")
    with pytest.raises(OSError, match=r"."):
        watched.event_supervisor._inbox.touch_marker(create=True)
    assert not (folder / "elsewhere").exists()


def test_the_end_of_a_second_watcher_leaves_the_marker_of_the_first(tmp_path: Path, folder: Path, watch: Watch) -> None:
    """Case 21: one inbox, two outputs."""
    from pipeline.sources.walk import WalkRules
    from pipeline.watching.watched_folder import WatchedFolder

    watched = watch()
    second = WatchedFolder(watched.inbox, WalkRules(), tmp_path / "other")
    second.place_marker()
    second.remove_marker()
    row = put(folder, "a.jpg", b"one")
    watched.drain()
    assert watched.stats.health == "ok" and rows_in(folder / "labels") == [row]
