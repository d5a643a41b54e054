"""When a labeller is replaced, kept, or restarted, by a clock that a test moves."""

from __future__ import annotations

from collections import deque

import pytest

from models.errors import InputMissingError
from pipeline.errors import WorkerDiedError
from pipeline.monitoring.daemon_stats import DaemonStats
from pipeline.watching.labeller_supervisor import LabellerSupervisor
from tests.support.watch_kit import Clock, FakeLabeller


class Starts:
    """Starts the labellers of a list in turn, or raises its errors."""

    def __init__(self, clock: Clock) -> None:
        self.outcomes: deque[FakeLabeller | Exception] = deque()
        self.stats = DaemonStats()
        self.supervisor = LabellerSupervisor(self._next, self.stats, clock)

    def _next(self) -> FakeLabeller:
        outcome = self.outcomes.popleft()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture
def starts(clock: Clock) -> Starts:
    made = Starts(clock)
    made.outcomes.append(FakeLabeller(clock))
    made.supervisor.start()
    return made


def test_a_reload_that_fails_keeps_the_running_labeller(starts: Starts) -> None:
    old = starts.supervisor.labeller
    starts.outcomes.append(InputMissingError("model.onnx is damaged"))
    assert not starts.supervisor.reload()
    assert starts.supervisor.labeller is old and starts.stats.health == "ok"


def test_a_restart_that_fails_is_retried_after_ever_longer_pauses(starts: Starts, clock: Clock) -> None:
    starts.supervisor.back_off(WorkerDiedError("64 classifier processes died"))
    for pause_s in (1.0, 5.0, 15.0, 60.0, 60.0):
        clock.advance(pause_s - 0.1)
        starts.supervisor.restart_if_due()
        starts.outcomes.append(InputMissingError("model.onnx is not there"))
        clock.advance(0.1)
        starts.supervisor.restart_if_due()
        assert not starts.outcomes and starts.supervisor.labeller is None
    assert starts.stats.health == "labelling: model.onnx is not there"


def test_a_reload_during_the_back_off_ends_it(starts: Starts, clock: Clock) -> None:
    starts.supervisor.back_off(WorkerDiedError("64 classifier processes died"))
    starts.outcomes.append(FakeLabeller(clock))
    assert starts.supervisor.reload()
    assert starts.supervisor.labeller is not None and starts.stats.health == "ok"


def test_replaced_processes_are_counted_over_all_labellers(starts: Starts, clock: Clock) -> None:
    starts.outcomes += [FakeLabeller(clock, restarts=2), FakeLabeller(clock, restarts=3)]
    assert starts.supervisor.reload() and starts.supervisor.reload()
    assert starts.supervisor.restarts == 5
