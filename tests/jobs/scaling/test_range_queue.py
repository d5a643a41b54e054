"""What the queue of ranges promises: each range is done once or given up, whatever nodes do."""

from __future__ import annotations

import random

from jobs.scaling.range_plan import PlannedRange
from jobs.scaling.range_queue import MOST_ATTEMPTS, Failure, RangeQueue
from pipeline.sources.source import NameRange

FAILURE = Failure("killed")


def queue_of(count: int) -> RangeQueue:
    return RangeQueue([PlannedRange(index, NameRange()) for index in range(count)])


def taken(queue: RangeQueue, node: str) -> int | None:
    planned = queue.take(node)
    return None if planned is None else planned.index


def test_a_range_of_a_silent_node_is_given_to_another_once_and_counts_once() -> None:
    queue = queue_of(2)
    assert [taken(queue, "a"), taken(queue, "b"), taken(queue, "c")] == [0, 1, None]
    assert queue.note_late(0, "a")
    assert not queue.note_late(0, "a")
    assert taken(queue, "c") == 0
    assert taken(queue, "d") is None
    assert queue.note_done(0)
    assert not queue.note_done(0)
    queue.note_failed(0, "a", FAILURE)
    assert queue.note_done(1)
    assert queue.is_finished
    assert not queue.given_up


def test_a_range_is_given_up_after_so_many_failures_and_the_others_are_done() -> None:
    queue = queue_of(2)
    for _ in range(MOST_ATTEMPTS):
        index = taken(queue, "a")
        while index != 1:
            assert index is not None
            assert queue.note_done(index)
            index = taken(queue, "a")
        queue.note_failed(1, "a", FAILURE)
    assert taken(queue, "a") is None
    assert queue.is_finished
    assert queue.given_up == {1: FAILURE}


def test_a_range_that_another_node_still_has_is_not_given_out_when_the_first_node_dies() -> None:
    queue = queue_of(1)
    assert taken(queue, "a") == 0
    assert queue.note_late(0, "a")
    assert taken(queue, "b") == 0
    queue.note_failed(0, "a", FAILURE)
    assert taken(queue, "c") is None
    queue.note_failed(0, "b", FAILURE)
    assert taken(queue, "c") == 0


def test_whatever_happens_every_range_ends_and_none_is_done_twice() -> None:
    chance = random.Random(1)
    for _ in range(200):
        queue, done = queue_of(8), 0
        at_work: list[tuple[int, str]] = []
        while not queue.is_finished:
            node = chance.choice("abcd")
            if node not in {name for _, name in at_work} and (index := taken(queue, node)) is not None:
                at_work.append((index, node))
                continue
            if not at_work:
                continue
            index, node = at_work[chance.randrange(len(at_work))]
            deed = chance.choice(["late", "fail", "done", "done"])
            if deed == "late":
                queue.note_late(index, node)
                continue
            at_work.remove((index, node))
            if deed == "fail":
                queue.note_failed(index, node, FAILURE)
            else:
                done += queue.note_done(index)
        assert done + len(queue.given_up) == 8


def test_a_range_goes_on_where_the_node_that_took_over_from_a_silent_one_fails() -> None:
    queue = queue_of(1)
    assert taken(queue, "a") == 0
    assert queue.note_late(0, "a")
    assert taken(queue, "b") == 0
    queue.note_failed(0, "b", FAILURE)
    assert taken(queue, "b") == 0
    queue.note_failed(0, "b", FAILURE)
    assert queue.is_finished
    assert queue.given_up == {0: FAILURE}


def test_a_node_that_gets_a_range_again_may_be_late_with_it_again() -> None:
    queue = queue_of(1)
    assert taken(queue, "a") == 0
    assert queue.note_late(0, "a")
    assert taken(queue, "a") == 0
    assert queue.note_late(0, "a")
    assert taken(queue, "b") == 0
