"""Ways in which photos arrive, with a real `watch-folder` by events and by polling: each photo gets one row."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.artifact import Artifact
from tests.support.waiting import SCALE, wait_until
from tests.support.watch_kit import digest
from tests.support.watch_process import WatchFolder, photo

_SETTLE_S = 1.0
_MODES = {"events": ["--rescan", "1h"], "polling": ["--poll", "0.3s"]}


@pytest.fixture(scope="module", params=list(_MODES))
def watch(
    request: pytest.FixtureRequest, tiny_model: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WatchFolder]:
    """One daemon for all scenarios of a mode; with events, the next timed scan is an hour away."""
    folder = tmp_path_factory.mktemp("watch")
    started = WatchFolder(folder, tiny_model, "--settle", f"{_SETTLE_S}s", "--flush", "0.2s", *_MODES[request.param])
    started.wait_until_ready()
    yield started
    assert started.end() == 0, started.logged()
    rows = started.rows()
    assert len(rows) == len(set(rows))


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    return tmp_path


def _expect(watch: WatchFolder, expected: dict[str, bytes], prefix: str) -> None:
    rows = sorted((name, digest(content)) for name, content in expected.items())
    wait_until(lambda: len(watch.rows_of(prefix)) >= len(rows), f"the rows of {prefix}")
    assert watch.rows_of(prefix) == rows


def test_a_slow_writer_gets_one_row_for_the_whole_photo(watch: WatchFolder) -> None:
    content = photo(1)
    pause_s = _SETTLE_S / 8
    pieces = 16 * SCALE
    for attempt in range(5):
        name = f"slow-{attempt}.png"
        longest_s = 0.0
        with (watch.inbox / name).open("wb", buffering=0) as stream:
            for piece in range(pieces):
                began_s = time.monotonic()
                stream.write(content[piece * len(content) // pieces : (piece + 1) * len(content) // pieces])
                time.sleep(pause_s)
                longest_s = max(longest_s, time.monotonic() - began_s)
        if longest_s < _SETTLE_S / 2:
            break
    else:
        pytest.skip("this machine stalls so long that a slow writer looks like one that has finished")
    _expect(watch, {name: content}, name)


def test_a_photo_renamed_into_the_inbox_gets_its_row(watch: WatchFolder, outside: Path) -> None:
    expected = {f"renamed-{number}.png": photo(100 + number) for number in range(10)}
    for name, content in expected.items():
        (outside / name).write_bytes(content)
        (outside / name).rename(watch.inbox / name)
    _expect(watch, expected, "renamed-")


def test_a_photo_renamed_from_a_hidden_name_gets_its_row(watch: WatchFolder) -> None:
    (watch.inbox / ".upload").write_bytes(photo(150))
    (watch.inbox / ".upload").rename(watch.inbox / "uploaded.png")
    _expect(watch, {"uploaded.png": photo(150)}, "uploaded")


def test_every_photo_of_a_folder_moved_in_gets_its_row(watch: WatchFolder, outside: Path) -> None:
    expected = {f"moved/{number % 3}/deep/{number}.png": photo(200 + number) for number in range(30)}
    for name, content in expected.items():
        (outside / name).parent.mkdir(parents=True, exist_ok=True)
        (outside / name).write_bytes(content)
    (outside / "moved").rename(watch.inbox / "moved")
    _expect(watch, expected, "moved/")


def test_photos_copied_into_folders_made_at_that_moment_get_their_rows(watch: WatchFolder) -> None:
    expected = {f"made/{number}/b/c/photo.png": photo(300 + number) for number in range(50 * SCALE)}
    for name, content in expected.items():
        (watch.inbox / name).parent.mkdir(parents=True)
        (watch.inbox / name).write_bytes(content)
    _expect(watch, expected, "made/")


def test_a_name_rewritten_slowly_gets_a_row_for_each_content(watch: WatchFolder) -> None:
    rows = [("rewritten.png", digest(photo(1000 + number))) for number in range(3)]
    for number in range(3):
        (watch.inbox / "rewritten.png").write_bytes(photo(1000 + number))
        wait_until(lambda: len(watch.rows_of("rewritten")) > number, "the row of this content")  # noqa: B023 - at once
    assert watch.rows_of("rewritten") == sorted(rows)


def test_a_name_rewritten_a_hundred_times_at_once_gets_a_row_for_the_last(watch: WatchFolder) -> None:
    began_s = time.monotonic()
    for number in range(100):
        (watch.inbox / "hasty.png").write_bytes(photo(2000 + number))
    was_fast = time.monotonic() - began_s < _SETTLE_S / 20
    last = ("hasty.png", digest(photo(2099)))
    wait_until(lambda: last in watch.rows(), "the row of the last content")
    assert watch.rows().count(last) == 1
    if was_fast:
        assert watch.rows_of("hasty") == [last]


def test_a_photo_deleted_before_it_has_settled_gets_no_row(watch: WatchFolder) -> None:
    with (watch.inbox / "deleted.png").open("wb") as stream:
        stream.write(photo(3000))
        stream.flush()
        (watch.inbox / "deleted.png").unlink()
    (watch.inbox / "after.png").write_bytes(photo(3001))
    _expect(watch, {"after.png": photo(3001)}, "after")
    assert watch.rows_of("deleted") == []


def test_a_touch_and_a_copy_over_itself_get_no_row(watch: WatchFolder, outside: Path) -> None:
    path = watch.inbox / "touched.png"
    path.write_bytes(photo(4000))
    _expect(watch, {"touched.png": photo(4000)}, "touched")
    os.utime(path)
    shutil.copyfile(path, outside / "copy.png")
    shutil.copyfile(outside / "copy.png", path)
    (watch.inbox / "later.png").write_bytes(photo(4001))
    _expect(watch, {"later.png": photo(4001)}, "later")
    wait_until(lambda: watch.status()["unchanged"] > 0, "the touched photo to be read again")
    assert len(watch.rows_of("touched")) == 1


def test_files_that_are_no_photos_are_ignored_and_hostile_names_are_escaped(watch: WatchFolder) -> None:
    raw = os.fsencode(str(watch.inbox))
    for name in (b"note.txt", b".hidden.png", b"\xff-odd.png", b"new\nline.png"):
        with open(raw + b"/" + name, "wb") as stream:
            stream.write(photo(5000))
    wait_until(lambda: {"\\xff-odd.png", "new\nline.png"} <= {name for name, _ in watch.rows()}, "the odd names")
    assert not {"note.txt", ".hidden.png"} & {name for name, _ in watch.rows()}
