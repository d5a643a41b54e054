"""watchdog's events as hints, with the real observer: which arrive, and what happens when none does."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.sources.walk import WalkRules
from pipeline.watching import file_events
from pipeline.watching.file_events import FileEvents, Hints
from pipeline.watching.settle_tracker import Hint
from pipeline.watching.watched_folder import WatchedFolder, file_system_type
from tests.support.waiting import wait_until
from tests.support.watch_kit import Watched, digest, rows_in


class RealTime:
    """The real clock, which a test may set forward."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self.wall_us = 1_790_000_000_000_000

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s

    def advance(self, seconds: float) -> None:
        self.ahead_s += seconds


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """A daemon with the real observer and no timed scan for a week."""
    (tmp_path / "inbox").mkdir()
    with Watched(tmp_path, RealTime(), settle_s=0.0, poll_s=None) as made:
        made.daemon.turn()
        yield made
        made.event_supervisor.stop()


def _gets_its_row(watched: Watched, name: str) -> None:
    content = name.encode()
    (watched.inbox / name).write_bytes(content)

    def has_row() -> bool:
        watched.daemon.turn()
        watched.clock.advance(0.2)
        return (name, digest(content)) in rows_in(watched.labels)

    wait_until(has_row, f"the row of {name}")


def _observer(watched: Watched) -> FileEvents:
    assert watched.event_supervisor._observer is not None
    return watched.event_supervisor._observer


def test_a_dead_observer_thread_is_replaced_and_every_photo_found(watched: Watched) -> None:
    _gets_its_row(watched, "before.jpg")
    first = _observer(watched)
    for emitter in list(first._observer.emitters):
        emitter.stop()
        emitter.join()
    (watched.inbox / "unnoticed.jpg").write_bytes(b"unnoticed.jpg")
    _gets_its_row(watched, "after.jpg")
    assert _observer(watched) is not first and watched.stats.observer_restarts == 1
    assert len(rows_in(watched.labels)) == 3


def test_an_observer_without_events_is_found_by_its_heartbeat(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    _gets_its_row(watched, "before.jpg")
    first = _observer(watched)
    monkeypatch.setattr(first, "on_any_event", lambda event: None)
    for emitter in first._observer.emitters:
        monkeypatch.setattr(emitter, "queue_event", lambda event: None)
    (watched.inbox / "unnoticed.jpg").write_bytes(b"unnoticed.jpg")

    def is_replaced() -> bool:
        watched.daemon.turn()
        watched.clock.advance(1.0)
        return _observer(watched) is not first

    wait_until(is_replaced, "a new observer")
    _gets_its_row(watched, "after.jpg")
    assert len(rows_in(watched.labels)) == 3


def test_a_healthy_observer_is_not_replaced_while_nothing_arrives(watched: Watched) -> None:
    first = _observer(watched)
    for _ in range(40):
        watched.daemon.turn()
        wait_until(lambda: first._heartbeat_sent_s is None, "the heartbeat")
        watched.clock.advance(1.0)
    assert _observer(watched) is first and watched.stats.observer_restarts == 0


def test_an_observer_is_not_replaced_because_the_inbox_refuses_the_heartbeat(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_file = os.open

    def refuse(path: Path, flags: int, mode: int = 0o777) -> int:
        if Path(path).parent == watched.inbox:
            raise OSError(errno.EROFS, "Read-only file system")
        return open_file(path, flags, mode)

    first = _observer(watched)
    wait_until(lambda: first._heartbeat_sent_s is None, "the first heartbeat")
    monkeypatch.setattr(os, "open", refuse)
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(60):
        watched.daemon.turn()
        watched.clock.advance(1.0)
    assert _observer(watched) is first and watched.stats.observer_restarts == 0
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_more_hints_than_the_capacity_become_one_scan(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_events, "CAPACITY_HINTS", 5)
    for number in range(20):
        (watched.inbox / f"{number}.jpg").write_bytes(bytes([number]))

    def has_all() -> bool:
        watched.daemon.turn()
        watched.clock.advance(0.2)
        return len(rows_in(watched.labels)) == 20

    wait_until(has_all, "all rows")


def test_renames_and_closes_give_their_hints_and_reading_gives_none(watched: Watched) -> None:
    hidden = watched.inbox / ".upload"
    hidden.write_bytes(b"x")
    hidden.rename(watched.inbox / "a.jpg")
    (watched.inbox / "b.jpg").write_bytes(b"y")
    found = Hints()

    def has_both() -> bool:
        found.files.update(_observer(watched).pop_hints().files)
        return len(found.files) >= 2

    wait_until(has_both, "the hints")
    time.sleep(0.2)
    found.files.update(_observer(watched).pop_hints().files)
    assert found.files == {str(watched.inbox / "a.jpg"): Hint.RENAMED, str(watched.inbox / "b.jpg"): Hint.CLOSED}
    (watched.inbox / "a.jpg").read_bytes()
    time.sleep(0.2)
    assert _observer(watched).pop_hints() == Hints()


@pytest.mark.parametrize(
    ("kind", "is_network"), [("nfs4", True), ("cifs", True), ("fuse.sshfs", True), ("ext4", False), ("tmpfs", False)]
)
def test_network_shares_are_recognised_by_their_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, is_network: bool
) -> None:
    mounts = tmp_path / "mountinfo"
    inbox = tmp_path / "my share" / "inbox"
    inbox.mkdir(parents=True)
    point = str(tmp_path / "my share").replace(" ", "\\040")
    mounts.write_text(f"1 0 8:1 / / rw - xfs /dev/sda1 rw\n2 1 0:5 / {point} rw,relatime shared:1 - {kind} there rw\n")
    monkeypatch.setattr("pipeline.watching.watched_folder._MOUNT_INFO", mounts)
    assert file_system_type(inbox) == kind
    assert WatchedFolder(inbox, WalkRules(), tmp_path).is_on_network() is is_network
