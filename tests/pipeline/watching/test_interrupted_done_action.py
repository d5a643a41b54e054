"""A process that is killed at any line of a done action loses no photo, and the next start leaves no hidden file."""

from __future__ import annotations

import os
import re
import signal
import sys
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from pipeline.datasets.row_index import Entry
from pipeline.watching import done_action, verified_photo
from pipeline.watching.done_action import DoneAction
from pipeline.watching.watched_folder import output_id
from tests.support.watch_kit import OWNER, Clock, Watched, digest, put, refuse_renames_to, rows_in

_FILES = {done_action.__file__, verified_photo.__file__}
_NAMES = {"a short name": "a.jpg", "a name of 255 bytes": "n" * 251 + ".jpg"}
_ACTIONS = ["delete", "move", "move to another file system"]


def _kill_at_line(number: int) -> None:
    """Kill this process when it comes to the line that is the `number`th to run in a done action."""
    passed = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal passed
        if frame.f_code.co_filename not in _FILES:
            return None
        if event == "line":
            passed += 1
            if passed == number:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)


def _is_killed_at_line(number: int, watched: Watched) -> bool:
    """Let a child label the inbox and be killed at a line of the done action; False if it came to the end before."""
    with warnings.catch_warnings():
        # The child uses no lock that another thread may hold.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            _kill_at_line(number)
            watched.drain()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def _files(folder: Path, prefix: str = "") -> dict[str, bytes]:
    return {
        prefix + str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".watch-folder")
    }


@pytest.mark.parametrize("name", _NAMES.values(), ids=_NAMES)
@pytest.mark.parametrize("action", _ACTIONS)
def test_a_kill_at_any_line_of_a_done_action_is_made_good_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str, name: str
) -> None:
    """Case 1: between the claim and its end a photo has a hidden name, and a copy is not whole."""
    seen: set[frozenset[str]] = set()
    number, is_killed = 0, True
    while is_killed:
        number += 1
        folder = tmp_path / str(number)
        (folder / "inbox").mkdir(parents=True)
        if action == "move to another file system":
            refuse_renames_to(folder / "done", monkeypatch)
        row = put(folder, f"sub/{name}", b"one")
        clock, done = Clock(), action.split()[0]
        with Watched(folder, clock, done=done) as watched:
            is_killed = _is_killed_at_line(number, watched)
        left = _files(folder / "inbox", "inbox/") | _files(folder / "done", "done/")
        if rows_in(folder / "labels"):
            assert action == "delete" or b"one" in left.values()
        else:
            assert left == {f"inbox/sub/{name}": b"one"}
        state = frozenset(re.sub("[0-9a-f]{16}", "token", path) for path in left)
        if state in seen:
            continue
        seen.add(state)
        clock.advance(60.0)
        with Watched(folder, clock, done=done) as watched:
            watched.drain()
            watched.drain()
        assert rows_in(folder / "labels") == [row]
        assert _files(folder / "inbox") == {}
        assert _files(folder / "done") == ({} if done == "delete" else {f"sub/{name}": b"one"})
        assert list((folder / "inbox" / "sub").iterdir()) == []
    assert len(seen) > {"delete": 2, "move": 1, "move to another file system": 4}[action]


def test_what_another_watcher_of_the_inbox_has_claimed_stays_its_own(tmp_path: Path) -> None:
    """Case 1: two outputs watch one inbox, and one of them starts while the other is at work."""
    (tmp_path / "inbox").mkdir()
    (tmp_path / "labels").mkdir()
    ours = f".a.jpg.{output_id(tmp_path / 'labels')}-0123456789abcdef.labelled"
    theirs = f".b.jpg.{OWNER}-0123456789abcdef.labelled"
    foreign = ".c.jpg.labelled"
    for name in (ours, theirs, foreign):
        put(tmp_path, name, name.encode())
    with Watched(tmp_path, Clock()) as watched:
        watched.drain()
        watched.drain()
    assert set(_files(tmp_path / "inbox")) == {"a.jpg", theirs, foreign}
    assert rows_in(tmp_path / "labels") == [("a.jpg", digest(ours.encode()))]


def test_a_claim_gives_way_to_a_newer_photo_of_its_name_and_neither_is_lost(tmp_path: Path) -> None:
    """Case 1: the camera has used the name again before the next start."""
    (tmp_path / "inbox").mkdir()
    (tmp_path / "labels").mkdir()
    claim = put(tmp_path, f".a.jpg.{output_id(tmp_path / 'labels')}-0123456789abcdef.labelled", b"old")
    newer = put(tmp_path, "a.jpg", b"new")
    with Watched(tmp_path, Clock()) as watched:
        watched.drain()
        watched.drain()
    assert rows_in(tmp_path / "labels") == sorted([newer, ("a.1.jpg", claim[1])])


def test_a_copy_is_made_beside_a_file_of_others_with_its_hidden_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 17: a link is planted where the copy of a move to another file system would be made."""
    (tmp_path / "inbox").mkdir()
    (tmp_path / "done").mkdir()
    (tmp_path / "foreign").write_bytes(b"foreign")
    (tmp_path / "done" / f".{OWNER}.moving").symlink_to(tmp_path / "foreign")
    refuse_renames_to(tmp_path / "done", monkeypatch)
    put(tmp_path, "a.jpg", b"one")
    entry = Entry("a.jpg", b"\1" + bytes.fromhex(digest(b"one")), 3, 1_700_000_000_000_000)
    DoneAction(tmp_path / "inbox", target=tmp_path / "done", owner=OWNER).apply(entry)
    assert (tmp_path / "foreign").read_bytes() == b"foreign"
    assert (tmp_path / "done" / f".{OWNER}.moving").is_symlink()
    assert (tmp_path / "done" / "a.jpg").read_bytes() == b"one"
