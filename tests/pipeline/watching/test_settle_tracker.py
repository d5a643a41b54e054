"""When a file counts as written, decided by a clock that a test moves."""

from __future__ import annotations

import pytest

from pipeline.records import FileRef
from pipeline.watching.settle_tracker import Hint, SettleTracker
from tests.support.watch_kit import Clock

PHOTO = FileRef("a.jpg", "/inbox/a.jpg", 10, 1_000_000, 7)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _look(tracker: SettleTracker, now: FileRef) -> None:
    for _ in tracker.to_look_at():
        tracker.notice(now)


def _taken(tracker: SettleTracker) -> list[str]:
    return [at_work.ref.name for at_work in iter(tracker.take, None)]


def test_a_file_is_handed_out_when_it_has_rested_and_not_before(clock: Clock) -> None:
    tracker = SettleTracker(2.0, clock)
    tracker.notice(PHOTO)
    clock.advance(1.9)
    _look(tracker, PHOTO)
    assert _taken(tracker) == []
    clock.advance(0.2)
    _look(tracker, PHOTO)
    assert _taken(tracker) == ["a.jpg"]


@pytest.mark.parametrize(
    "changed", [PHOTO._replace(size_bytes=11), PHOTO._replace(mtime_us=1_000_001), PHOTO._replace(inode=8)]
)
def test_a_change_of_size_time_or_inode_begins_the_rest_anew(clock: Clock, changed: FileRef) -> None:
    tracker = SettleTracker(2.0, clock)
    tracker.notice(PHOTO)
    clock.advance(1.9)
    tracker.notice(changed)
    clock.advance(1.9)
    _look(tracker, changed)
    assert _taken(tracker) == []
    clock.advance(0.2)
    _look(tracker, changed)
    assert _taken(tracker) == ["a.jpg"]


@pytest.mark.parametrize(("hint", "rest_s"), [(Hint.ARRIVED, 0.0), (Hint.CLOSED, 0.2), (Hint.CHANGED, 2.0)])
def test_a_rename_needs_no_rest_a_close_a_tenth_of_it(clock: Clock, hint: Hint, rest_s: float) -> None:
    tracker = SettleTracker(2.0, clock)
    tracker.notice(PHOTO, hint)
    if rest_s:
        clock.advance(rest_s - 0.01)
        _look(tracker, PHOTO)
        assert _taken(tracker) == []
        clock.advance(0.02)
        _look(tracker, PHOTO)
    assert _taken(tracker) == ["a.jpg"]


def test_a_hundred_rewrites_faster_than_the_rest_are_handed_out_once(clock: Clock) -> None:
    tracker = SettleTracker(2.0, clock)
    taken: list[str] = []
    for version in range(100):
        rewritten = PHOTO._replace(mtime_us=version)
        tracker.notice(rewritten, Hint.CLOSED)
        clock.advance(0.19)
        _look(tracker, rewritten)
        taken += _taken(tracker)
    clock.advance(2.0)
    _look(tracker, rewritten)
    assert taken + _taken(tracker) == ["a.jpg"]


def test_a_file_overwritten_while_it_waits_its_turn_rests_anew(clock: Clock) -> None:
    tracker = SettleTracker(2.0, clock)
    tracker.notice(PHOTO, Hint.ARRIVED)
    tracker.notice(PHOTO._replace(size_bytes=20))
    assert _taken(tracker) == []


def test_a_deleted_file_is_never_handed_out(clock: Clock) -> None:
    tracker = SettleTracker(2.0, clock)
    tracker.notice(PHOTO, Hint.ARRIVED)
    tracker.gone("a.jpg")
    assert _taken(tracker) == [] and len(tracker) == 0


def test_a_full_tracker_turns_away_what_it_does_not_know_and_nothing_else(clock: Clock) -> None:
    tracker = SettleTracker(2.0, clock, capacity=2)
    names = ["a.jpg", "b.jpg", "c.jpg"]
    assert [tracker.notice(PHOTO._replace(name=name)) for name in names] == [True, True, False]
    assert tracker.notice(PHOTO._replace(size_bytes=99))


def test_what_was_at_work_when_processes_died_is_handed_out_again(clock: Clock) -> None:
    tracker = SettleTracker(2.0, clock)
    tracker.notice(PHOTO, Hint.ARRIVED)
    assert _taken(tracker) == ["a.jpg"]
    tracker.put_all_back()
    clock.advance(2.0)
    _look(tracker, PHOTO)
    again = tracker.take()
    assert again is not None and (again.ref, again.attempt) == (PHOTO, 2)


def test_a_file_written_to_all_the_time_costs_no_more_memory_as_time_goes_by(clock: Clock) -> None:
    tracker = SettleTracker(2.0, clock)
    sizes = []
    for version in range(2000):
        written = PHOTO._replace(size_bytes=version)
        tracker.notice(written)
        clock.advance(0.05)
        _look(tracker, written)
        sizes.append(len(tracker._due))
    assert max(sizes[1000:]) <= max(sizes[:1000]) <= 50
