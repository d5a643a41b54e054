"""watchdog's events as hints, with the real observer: what is heard, and what happens when nothing is."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.sources.walk import WalkRules
from pipeline.watching import file_events as watcher_module
from pipeline.watching.event_supervisor import WatchIntervals
from pipeline.watching.file_events import FileEvents, Hints
from pipeline.watching.settle_tracker import Hint
from pipeline.watching.watched_folder import MARKER_NAME, WatchedFolder, file_system_type
from tests.support.watch_kit import Watched, digest, rows_in
from tests.support.watch_process import wait_until


class RealTime:
    """A clock that may be pushed forward."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self.wall_us = 1_790_000_000_000_000

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s

    def advance(self, seconds: float) -> None:
        self.ahead_s += seconds


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """A loop with the real observer and no timed scan for a week."""
    (tmp_path / "inbox").mkdir()
    made = Watched(tmp_path, RealTime(), settle_s=0.0, rhythm=WatchIntervals(rescan_s=7 * 86400.0))
    made.scanner.set_interval(7 * 86400.0)
    made.daemon.turn()
    yield made
    made.event_supervisor.end()
    made.kill()


def _gets_its_row(watched: Watched, name: str) -> None:
    content = name.encode()
    (watched.inbox / name).write_bytes(content)

    def has_row() -> bool:
        watched.daemon.turn()
        watched.clock.advance(0.2)
        return (name, digest(content)) in rows_in(watched.labels)

    wait_until(has_row, f"the row of {name}")


def _threads(watched: Watched) -> FileEvents:
    assert watched.pending_files.watcher is not None
    return watched.pending_files.watcher


def test_a_dead_observer_thread_is_replaced_and_no_photo_lost(watched: Watched) -> None:
    _gets_its_row(watched, "before.jpg")
    first = _threads(watched)
    for emitter in list(first._observer.emitters):
        emitter.stop()
        emitter.join()
    (watched.inbox / "unheard.jpg").write_bytes(b"unheard.jpg")
    _gets_its_row(watched, "after.jpg")
    assert _threads(watched) is not first and watched.stats.observer_restarts == 1
    assert len(rows_in(watched.labels)) == 3


def test_an_observer_that_went_deaf_is_found_by_its_heartbeat(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    _gets_its_row(watched, "before.jpg")
    first = _threads(watched)
    monkeypatch.setattr(first, "_on_event", lambda event: None)
    for emitter in first._observer.emitters:
        monkeypatch.setattr(emitter, "queue_event", lambda event: None)
    (watched.inbox / "unheard.jpg").write_bytes(b"unheard.jpg")

    def is_replaced() -> bool:
        watched.daemon.turn()
        watched.clock.advance(1.0)
        return _threads(watched) is not first

    wait_until(is_replaced, "a new observer")
    _gets_its_row(watched, "after.jpg")
    assert len(rows_in(watched.labels)) == 3


def test_a_healthy_observer_is_not_replaced_while_nothing_arrives(watched: Watched) -> None:
    first = _threads(watched)
    for _ in range(40):
        watched.daemon.turn()
        wait_until(lambda: first._beat_sent_s is None, "the heartbeat")
        watched.clock.advance(1.0)
    assert _threads(watched) is first and watched.stats.observer_restarts == 0


def test_a_heartbeat_that_the_inbox_refuses_is_not_taken_for_deafness(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_file = os.open

    def refuse(path: Path, flags: int) -> int:
        if path == watched.inbox / MARKER_NAME:
            raise OSError(errno.EROFS, "Read-only file system")
        return open_file(path, flags)

    first = _threads(watched)
    wait_until(lambda: first._beat_sent_s is None, "the first heartbeat")
    monkeypatch.setattr(os, "open", refuse)
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(60):
        watched.daemon.turn()
        watched.clock.advance(1.0)
    assert _threads(watched) is first and watched.stats.observer_restarts == 0
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_more_hints_than_there_is_room_for_become_one_scan(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher_module, "CAPACITY_HINTS", 5)
    for number in range(20):
        (watched.inbox / f"{number}.jpg").write_bytes(bytes([number]))

    def has_all() -> bool:
        watched.daemon.turn()
        watched.clock.advance(0.2)
        return len(rows_in(watched.labels)) == 20

    wait_until(has_all, "all rows")


def test_renames_and_closes_are_heard_as_what_they_are_and_reading_is_not_heard(watched: Watched) -> None:
    hidden = watched.inbox / ".upload"
    hidden.write_bytes(b"x")
    hidden.rename(watched.inbox / "a.jpg")
    (watched.inbox / "b.jpg").write_bytes(b"y")
    heard = Hints()

    def is_heard() -> bool:
        heard.files.update(_threads(watched).take().files)
        return len(heard.files) >= 2

    wait_until(is_heard, "the hints")
    time.sleep(0.2)
    heard.files.update(_threads(watched).take().files)
    assert heard.files == {str(watched.inbox / "a.jpg"): Hint.ARRIVED, str(watched.inbox / "b.jpg"): Hint.CLOSED}
    (watched.inbox / "a.jpg").read_bytes()
    time.sleep(0.2)
    assert _threads(watched).take() == Hints()


@pytest.mark.parametrize(
    ("kind", "is_network"), [("nfs4", True), ("cifs", True), ("fuse.sshfs", True), ("ext4", False), ("tmpfs", False)]
)
def test_network_shares_are_known_by_their_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, is_network: bool
) -> None:
    mounts = tmp_path / "mountinfo"
    inbox = tmp_path / "my share" / "inbox"
    inbox.mkdir(parents=True)
    point = str(tmp_path / "my share").replace(" ", "\\040")
    mounts.write_text(f"1 0 8:1 / / rw - xfs /dev/sda1 rw\n2 1 0:5 / {point} rw,relatime shared:1 - {kind} there rw\n")
    monkeypatch.setattr("pipeline.watching.watched_folder._MOUNT_INFO", mounts)
    assert file_system_type(inbox) == kind
    assert WatchedFolder(inbox, WalkRules()).is_on_network() is is_network
