"""When a file counts as completely written, by a clock that a test moves."""

from __future__ import annotations

import pytest

from pipeline.records import FileRef
from pipeline.watching.settle_tracker import Hint, SettleTracker
from tests.support.watch_kit import Clock

PHOTO = FileRef("a.jpg", "/inbox/a.jpg", 10, 1_000_000, 7)


def _recheck(tracker: SettleTracker, now: FileRef) -> None:
    tracker.recheck(lambda _: now)


def _popped(tracker: SettleTracker) -> list[str]:
    return [file.ref.name for file in iter(tracker.pop_ready, None)]


def test_a_file_is_ready_when_it_has_settled_and_not_before(clock: Clock) -> None:
    tracker = SettleTracker(2.0, clock)
    tracker.notice(PHOTO)
    clock.advance(1.9)
    _recheck(tracker, PHOTO)
    assert _popped(tracker) == []
    clock.advance(0.2)
    _recheck(tracker, PHOTO)
    assert _popped(tracker) == ["a.jpg"]


@pytest.mark.parametrize(
    "changed", [PHOTO._replace(size_bytes=11), PHOTO._replace(mtime_us=1_000_001), PHOTO._replace(inode=8)]
)
def test_a_change_of_size_time_or_inode_restarts_the_wait(clock: Clock, changed: FileRef) -> None:
    tracker = SettleTracker(2.0, clock)
    tracker.notice(PHOTO)
    clock.advance(1.9)
    tracker.notice(changed)
    clock.advance(1.9)
    _recheck(tracker, changed)
    assert _popped(tracker) == []
    clock.advance(0.2)
    _recheck(tracker, changed)
    assert _popped(tracker) == ["a.jpg"]


@pytest.mark.parametrize(("hint", "wait_s"), [(Hint.RENAMED, 0.0), (Hint.CLOSED, 0.2), (Hint.CHANGED, 2.0)])
def test_a_renamed_file_is_ready_at_once_and_a_closed_one_after_a_tenth_of_the_wait(
    clock: Clock, hint: Hint, wait_s: float
) -> None:
    tracker = SettleTracker(2.0, clock)
    tracker.notice(PHOTO, hint)
    if wait_s:
        clock.advance(wait_s - 0.01)
        _recheck(tracker, PHOTO)
        assert _popped(tracker) == []
        clock.advance(0.02)
        _recheck(tracker, PHOTO)
    assert _popped(tracker) == ["a.jpg"]


def test_a_hundred_rewrites_faster_than_the_wait_are_handed_out_once(clock: Clock) -> None:
    tracker = SettleTracker(2.0, clock)
    popped: list[str] = []
    for version in range(100):
        rewritten = PHOTO._replace(mtime_us=version)
        tracker.notice(rewritten, Hint.CLOSED)
        clock.advance(0.19)
        _recheck(tracker, rewritten)
        popped += _popped(tracker)
    clock.advance(2.0)
    _recheck(tracker, rewritten)
    assert popped + _popped(tracker) == ["a.jpg"]


def test_a_file_overwritten_while_it_is_ready_waits_again(clock: Clock) -> None:
    tracker = SettleTracker(2.0, clock)
    tracker.notice(PHOTO, Hint.RENAMED)
    tracker.notice(PHOTO._replace(size_bytes=20))
    assert _popped(tracker) == []


def test_a_deleted_file_is_never_handed_out(clock: Clock) -> None:
    tracker = SettleTracker(2.0, clock)
    tracker.notice(PHOTO, Hint.RENAMED)
    tracker.forget("a.jpg")
    assert _popped(tracker) == [] and len(tracker) == 0


def test_a_full_tracker_rejects_unknown_files_and_no_others(clock: Clock) -> None:
    tracker = SettleTracker(2.0, clock, capacity=2)
    names = ["a.jpg", "b.jpg", "c.jpg"]
    assert [tracker.notice(PHOTO._replace(name=name)) for name in names] == [True, True, False]
    assert tracker.notice(PHOTO._replace(size_bytes=99))


def test_files_in_progress_when_processes_died_are_handed_out_again(clock: Clock) -> None:
    tracker = SettleTracker(2.0, clock)
    tracker.notice(PHOTO, Hint.RENAMED)
    assert _popped(tracker) == ["a.jpg"]
    tracker.requeue_all()
    clock.advance(2.0)
    _recheck(tracker, PHOTO)
    again = tracker.pop_ready()
    assert again is not None and (again.ref, again.attempt) == (PHOTO, 2)


def test_a_file_that_is_written_all_the_time_costs_no_growing_memory(clock: Clock) -> None:
    tracker = SettleTracker(2.0, clock)
    sizes = []
    for version in range(2000):
        written = PHOTO._replace(size_bytes=version)
        tracker.notice(written)
        clock.advance(0.05)
        _recheck(tracker, written)
        sizes.append(len(tracker._due))
    assert max(sizes[1000:]) <= max(sizes[:1000]) <= 50
