"""The watchdog: which workers it calls faulty, on a clock of the test's own and real processes without any work."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from models.system.process_state import is_suspended
from models.system.watchdog import Fault, Watchdog


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def tick(self, times: int = 1) -> None:
        self.now_s += times * 1.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pid() -> Iterator[int]:
    process = subprocess.Popen(["sleep", "1000"])
    yield process.pid
    process.kill()
    process.wait()


def kinds(watchdog: Watchdog, pid: int, busy_since_s: float | None) -> list[Fault]:
    return [fault for fault, _ in watchdog.inspect([(pid, busy_since_s)]).values()]


def suspend(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    while not is_suspended(pid):
        time.sleep(0.001)


def test_a_worker_at_one_item_beyond_the_limit_is_late(clock: Clock, pid: int) -> None:
    watchdog = Watchdog(10, clock=clock)
    began_s = clock.now_s
    for _ in range(10):
        clock.tick()
        assert kinds(watchdog, pid, began_s) == []
    clock.tick()
    assert kinds(watchdog, pid, None) == []
    clock.tick()
    assert watchdog.inspect([(pid, began_s)]) == {pid: (Fault.LATE, "no result within 10 s")}


def test_no_worker_is_late_because_this_process_was_asleep(clock: Clock, pid: int) -> None:
    watchdog = Watchdog(10, clock=clock)
    began_s = clock.now_s
    clock.tick(8 * 3600)
    assert kinds(watchdog, pid, began_s) == []
    for _ in range(10):
        clock.tick()
        assert kinds(watchdog, pid, began_s) == []
    clock.tick()
    assert kinds(watchdog, pid, began_s) == [Fault.LATE]


def test_a_worker_is_suspended_when_two_ticks_find_it_halted(clock: Clock, pid: int) -> None:
    watchdog = Watchdog(clock=clock)
    suspend(pid)
    clock.tick()
    assert kinds(watchdog, pid, clock.now_s) == []
    os.kill(pid, signal.SIGCONT)
    clock.tick()
    assert kinds(watchdog, pid, clock.now_s) == []
    suspend(pid)
    for found in ([], [Fault.SUSPENDED]):
        clock.tick()
        assert kinds(watchdog, pid, None) == found


def test_a_worker_that_has_grown_is_reported_when_it_is_idle(clock: Clock, pid: int) -> None:
    watchdog = Watchdog(10, 4096, clock)
    clock.tick()
    assert kinds(watchdog, pid, clock.now_s) == []
    clock.tick()
    assert kinds(watchdog, pid, None) == [Fault.GROWN]
    clock.tick()
    assert kinds(Watchdog(10, 1 << 40, clock), pid, None) == []


def test_a_process_that_has_ended_is_no_fault_and_between_ticks_none_is_reported(clock: Clock, pid: int) -> None:
    watchdog = Watchdog(10, 4096, clock)
    assert kinds(watchdog, pid, None) == []
    clock.tick()
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert kinds(watchdog, pid, clock.now_s - 100) == []
