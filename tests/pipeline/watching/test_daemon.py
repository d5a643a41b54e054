"""What the loop of `watch-folder` promises, shown without processes and without waiting."""

from __future__ import annotations

import errno
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.datasets.growing_part import GrowingPart
from pipeline.datasets.row_index import Entry
from pipeline.errors import WorkerDiedError
from pipeline.records import ErrorClass, FileRef, ItemError
from pipeline.tables.part_store import state_folder
from pipeline.watching.done_action import DoneAction, Outcome
from tests.support.watch_kit import Clock, Watch, Watched, put, rows_in


def test_same_name_with_new_bytes_is_a_new_row_and_a_touch_is_none(watched: Watched, folder: Path) -> None:
    first = put(folder, "a.jpg", b"one", 1_700_000_000)
    watched.drain()
    put(folder, "a.jpg", b"one", 1_700_000_001)
    watched.drain()
    assert rows_in(folder / "labels") == [first]
    assert watched.stats.unchanged == 1
    second = put(folder, "a.jpg", b"two", 1_700_000_002)
    watched.drain()
    assert rows_in(folder / "labels") == sorted([first, second])


def test_a_touch_before_the_row_is_on_disk_is_no_second_row(folder: Path, watch: Watch) -> None:
    watched = watch(settle_s=0.0)
    row = put(folder, "a.jpg", b"one", 1_700_000_000)
    watched.daemon.turn()
    watched.row_committer.flush()
    other = put(folder, "b.jpg", b"two", 1_700_000_000)
    watched.schedule.request()
    watched.daemon.turn()
    assert watched.row_committer.rows_not_durable == 1
    put(folder, "b.jpg", b"two", 1_700_000_001)
    watched.schedule.request()
    watched.daemon.turn()
    watched.drain()
    assert rows_in(folder / "labels") == [row, other]


def test_touched_photos_are_read_once_and_not_at_every_scan(watched: Watched, folder: Path) -> None:
    put(folder, "a.jpg", b"one", 1_700_000_000)
    watched.drain()
    put(folder, "a.jpg", b"one", 1_700_000_001)
    watched.drain()
    watched.run_for(60)
    assert watched.labeller.seen == ["a.jpg", "a.jpg"]


def test_a_day_is_a_few_full_parts_and_one_open_part(watched: Watched, folder: Path) -> None:
    expected = []
    for index in range(12):
        expected.append(put(folder, f"{index:02d}.jpg", bytes([index])))
        watched.drain()
    parts = sorted((folder / "labels").glob("date=*/part-*.parquet"))
    assert [pq.read_metadata(part).num_rows for part in parts] == [5, 5, 2]
    assert rows_in(folder / "labels") == expected


def test_a_clock_that_jumps_makes_no_new_part_at_each_jump(watched: Watched, folder: Path, clock: Clock) -> None:
    expected = []
    for index in range(8):
        expected.append(put(folder, f"{index}.jpg", bytes([index])))
        watched.drain()
        clock.wall_us += (-1) ** index * 86_400_000_000
    parts = sorted((folder / "labels").glob("date=*/part-*.parquet"))
    assert [pq.read_metadata(part).num_rows for part in parts] == [4, 4]
    assert rows_in(folder / "labels") == expected


def test_a_full_disk_costs_no_row_and_no_photo_and_health_says_so(
    folder: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = watch(done="delete")

    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(GrowingPart, "append", no_space)
    expected = [put(folder, f"{index}.jpg", bytes([index])) for index in range(7)]
    watched.run_for(60)
    assert len(list((folder / "inbox").glob("*.jpg"))) == 7
    assert "No space left on device" in watched.stats.health
    assert len(watched.labeller.seen) == 7
    monkeypatch.undo()
    watched.run_for(90)
    assert rows_in(folder / "labels") == expected
    assert watched.stats.health == "ok"
    assert list((folder / "inbox").glob("*.jpg")) == []


def test_while_the_disk_refuses_the_pauses_between_commits_grow(
    watched: Watched, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried_s: list[float] = []

    def no_space(*_: object) -> None:
        tried_s.append(watched.clock())
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(GrowingPart, "append", no_space)
    put(folder, "a.jpg", b"one")
    watched.run_for(300)
    pauses = [later - earlier for earlier, later in pairwise(tried_s)]
    assert pauses == sorted(pauses) and pauses[-1] == 60.0


def test_a_photo_moves_only_after_its_row_is_on_disk(
    folder: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = watch(done="move")
    rows_at_move: list[list[tuple[str, str | None]]] = []
    move = DoneAction.apply

    def noting_rows(self: DoneAction, entry: Entry) -> Outcome:
        rows_at_move.append(rows_in(folder / "labels"))
        return move(self, entry)

    monkeypatch.setattr(DoneAction, "apply", noting_rows)
    row = put(folder, "camera/a.jpg", b"one")
    watched.drain()
    assert rows_at_move and all(rows == [row] for rows in rows_at_move)
    assert (folder / "done" / "camera" / "a.jpg").read_bytes() == b"one"
    assert not (folder / "inbox" / "camera" / "a.jpg").exists()


def test_a_moved_photo_never_overwrites_another_of_its_name(folder: Path, watch: Watch) -> None:
    watched = watch(done="move")
    for index, content in enumerate([b"one", b"two"]):
        put(folder, "a.jpg", content, 1_700_000_000 + index)
        watched.drain()
    assert sorted(path.read_bytes() for path in (folder / "done").iterdir()) == [b"one", b"two"]


def test_a_move_that_was_cut_short_after_its_copy_leaves_one_photo(folder: Path, watch: Watch) -> None:
    (folder / "done").mkdir()
    (folder / "done" / "a.jpg").write_bytes(b"one")
    watched = watch(done="move")
    put(folder, "a.jpg", b"one")
    watched.drain()
    assert [path.name for path in (folder / "done").iterdir()] == ["a.jpg"]
    assert not (folder / "inbox" / "a.jpg").exists()


def test_photos_that_failed_move_without_overwriting_each_other(folder: Path, watch: Watch) -> None:
    watched = watch(done="move")
    for index in range(3):
        put(folder, "a.jpg", b"", 1_700_000_000 + index)
        watched.drain()
    assert sorted(path.name for path in (folder / "done").iterdir()) == ["a.1.jpg", "a.2.jpg", "a.jpg"]


def test_a_photo_replaced_after_it_was_read_is_not_deleted_for_the_old_ones_row(folder: Path, watch: Watch) -> None:
    watched = watch(done="delete", settle_s=0.0)
    first = put(folder, "a.jpg", b"one", 1_700_000_000)
    watched.daemon.turn()
    second = put(folder, "a.jpg", b"two", 1_700_000_001)
    watched.row_committer.flush()
    assert (folder / "inbox" / "a.jpg").read_bytes() == b"two"
    watched.drain()
    assert rows_in(folder / "labels") == sorted([first, second])
    assert not (folder / "inbox" / "a.jpg").exists()


def test_a_photo_whose_daemon_was_killed_before_the_move_moves_at_the_next_start(folder: Path, watch: Watch) -> None:
    before = watch()
    row = put(folder, "a.jpg", b"one")
    before.drain()
    before.kill()
    after = watch(done="move")
    after.drain()
    assert (folder / "done" / "a.jpg").exists() and rows_in(folder / "labels") == [row]
    assert after.labeller.seen == []


def test_a_photo_that_cannot_be_labelled_is_never_deleted(folder: Path, watch: Watch) -> None:
    watched = watch(done="delete")
    put(folder, "empty.jpg", b"")
    watched.drain()
    watched.drain()
    assert (folder / "inbox" / "empty.jpg").exists()
    assert rows_in(folder / "labels") == [("empty.jpg", None)]


def test_a_damaged_part_is_set_aside_and_its_photos_are_labelled_again(folder: Path, watch: Watch) -> None:
    before = watch()
    row = put(folder, "a.jpg", b"one")
    before.drain()
    before.kill()
    (part,) = (folder / "labels").glob("date=*/part-*.parquet")
    part.write_bytes(part.read_bytes()[:-20])
    after = watch()
    after.drain()
    assert rows_in(folder / "labels") == [row]
    assert len(list((folder / "labels").glob("date=*/.part-*.damaged"))) == 1


def test_a_restart_opens_no_photo_that_has_its_row_even_without_its_index(folder: Path, watch: Watch) -> None:
    before = watch()
    rows = [put(folder, f"{index}.jpg", bytes([index])) for index in range(7)]
    before.drain()
    before.kill()
    for path in (state_folder(folder / "labels")).glob("index.sqlite*"):
        path.unlink()
    after = watch()
    after.drain()
    assert after.labeller.seen == [] and rows_in(folder / "labels") == rows


def test_processes_that_die_cost_a_pause_and_no_photo(watched: Watched, folder: Path) -> None:
    def die(_: FileRef) -> None:
        watched.labeller.before_read = lambda ref: None
        raise WorkerDiedError("64 decode processes died")

    watched.labeller.before_read = die
    rows = [put(folder, f"{index}.jpg", bytes([index])) for index in range(7)]
    watched.drain()
    watched.drain()
    assert rows_in(folder / "labels") == rows and watched.stats.health == "ok"


def test_an_absent_inbox_pauses_the_daemon_and_costs_no_row(watched: Watched, folder: Path) -> None:
    first = put(folder, "a.jpg", b"one")
    watched.drain()
    (folder / "inbox").rename(folder / "elsewhere")
    watched.drain()
    assert "inbox: paused" in watched.stats.health
    (folder / "inbox").mkdir()
    watched.drain()
    assert " is gone (unmounted?" in watched.stats.health
    (folder / "inbox").rmdir()
    (folder / "elsewhere").rename(folder / "inbox")
    second = put(folder, "b.jpg", b"two")
    watched.drain()
    assert rows_in(folder / "labels") == [first, second] and watched.stats.health == "ok"
    assert watched.labeller.seen == ["a.jpg", "b.jpg"]


def test_a_permission_that_comes_a_moment_after_the_bytes_costs_no_error_row(watched: Watched, folder: Path) -> None:
    row = put(folder, "a.jpg", b"one")
    watched.labeller.errors["a.jpg"] = [ItemError(ErrorClass.PERMISSION, "no permission to read the file")]
    watched.drain()
    assert rows_in(folder / "labels") == [row]


def test_a_file_that_stays_unreadable_is_an_error_row(watched: Watched, folder: Path) -> None:
    put(folder, "a.jpg", b"one")
    watched.labeller.errors["a.jpg"] = [ItemError(ErrorClass.PERMISSION, "no permission to read the file")] * 99
    watched.drain()
    assert rows_in(folder / "labels") == [("a.jpg", None)]
    assert len(watched.labeller.seen) == 3


def test_a_photo_gone_before_it_could_be_read_is_no_row(watched: Watched, folder: Path) -> None:
    put(folder, "a.jpg", b"one")
    watched.labeller.before_read = lambda ref: Path(ref.path).unlink(missing_ok=True)
    watched.drain()
    assert rows_in(folder / "labels") == [] and watched.stats.vanished == 1
