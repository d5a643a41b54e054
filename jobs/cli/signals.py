"""What signals mean to a command: stop after what is in flight, stop now, load the model again."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from pipeline.errors import ExitCode, Interrupted
from pipeline.watching.control import LoopControl

_GRACE_S = 20


class StopSignals:
    """While entered, the first signal is noted, and ends the run only after 20 s; a second one ends it at once.

    At once means by an exception, so that what is labelled is kept; should even that hang, the process ends without.
    """

    def __init__(self) -> None:
        self._first = 0
        self._is_ending = False
        self._before: dict[signal.Signals, Any] = {}

    def requested(self) -> int:
        """Return the number of the signal that asked for a stop, 0 while none has."""
        return self._first

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
            self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._on_alarm)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before:
            signal.alarm(0)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self._first:
            self._end()
        else:
            self._first = number
            signal.alarm(_GRACE_S)

    def _on_alarm(self, _number: int, _frame: FrameType | None) -> None:
        if self._is_ending:
            os._exit(128 + self._first)
        self._end()

    def _end(self) -> None:
        if not self._is_ending:
            self._is_ending = True
            signal.alarm(_GRACE_S)
            raise Interrupted(self._first)


class _StoppedEarlyError(BaseException):
    """Nothing that goes wrong while a model loads, and is dealt with there, may be mistaken for it."""


def end_at_once_when_told() -> None:
    """Until `requests_by_signal` listens: SIGTERM and Ctrl-C end this process with 0, and there is nothing to reload.

    To be called first of all: a service is stopped in the middle of its imports too, and nothing has begun then.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(ExitCode.OK))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@contextlib.contextmanager
def requests_by_signal() -> Iterator[LoopControl]:
    """Turn signals into requests to the loop that is controlled, and wake that loop at each.

    SIGTERM and Ctrl-C end the block at once, and without an error, until the loop `is_running`; from then on they
    request a stop, and a second signal does not wait for what is in flight.
    """
    control = LoopControl()

    def stop(number: int, _: FrameType | None) -> None:
        is_second, control.stop_requested = control.stop_requested, True
        control.wake()
        if not control.is_running:
            raise _StoppedEarlyError
        if is_second:
            raise Interrupted(number)

    def reload(_number: int, _frame: FrameType | None) -> None:
        control.reload_requested = True
        control.wake()

    handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: reload}
    before = {number: signal.getsignal(number) for number in handlers}
    try:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        yield control
    except _StoppedEarlyError:
        return
    finally:
        for number, former in before.items():
            signal.signal(number, former)
        control.close()
