"""Signals of a command: SIGINT and SIGTERM stop its work, SIGHUP makes a watching command load the model again.

A run has `StopSignals`: the first signal asks the run to stop, and the run is interrupted 20 s later, or at once by a
second signal. A watching command first has `end_at_once_by_signal`, then `requests_by_signal`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from types import FrameType

from pipeline.errors import ExitCode, Interrupted
from pipeline.watching.control import LoopControl

_GRACE_S = 20

Handler = Callable[[int, FrameType | None], None]


@contextlib.contextmanager
def _handling(handlers: Mapping[signal.Signals, Handler]) -> Iterator[None]:
    """Install `handlers` for the block, and the former handlers after it."""
    former = {number: signal.getsignal(number) for number in handlers}
    try:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        yield
    finally:
        for number, handler_before in former.items():
            signal.signal(number, handler_before)


class StopSignals:
    """While entered, the first SIGINT or SIGTERM is recorded; after `grace_s`, or a second signal, `Interrupted` is
    raised.

    The exception lets the run keep what is labelled. If the run still hangs 20 s later, the process exits without that.
    """

    def __init__(self, grace_s: int = _GRACE_S) -> None:
        self._grace_s = grace_s
        self._first = 0
        self._is_ending = False
        self._stack = contextlib.ExitStack()

    def requested(self) -> int:
        """Return the number of the signal that asked for a stop, 0 while none has."""
        return self._first

    def __enter__(self) -> StopSignals:
        # Python lets only the main thread handle signals.
        if threading.current_thread() is threading.main_thread():
            handlers = {signal.SIGINT: self._on_signal, signal.SIGTERM: self._on_signal, signal.SIGALRM: self._on_alarm}
            self._stack.enter_context(_handling(handlers))
            self._stack.callback(signal.alarm, 0)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self._first:
            self._interrupt()
        else:
            self._first = number
            signal.alarm(self._grace_s)

    def _on_alarm(self, _number: int, _frame: FrameType | None) -> None:
        if self._is_ending:
            os._exit(128 + self._first)
        self._interrupt()

    def _interrupt(self) -> None:
        if not self._is_ending:
            self._is_ending = True
            signal.alarm(_GRACE_S)
            raise Interrupted(self._first)


class _StoppedEarlyError(BaseException):
    """No `except Exception` around the loading of a model may catch a stop."""


def end_at_once_by_signal() -> None:
    """Until `requests_by_signal`: SIGTERM and SIGINT end this process with exit code 0, and SIGHUP is ignored.

    Call this first: a service manager may stop the process during its imports, when no work has begun.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(ExitCode.OK))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@contextlib.contextmanager
def requests_by_signal() -> Iterator[LoopControl]:
    """Turn signals into requests to stop or to reload; each signal also wakes the controlled loop.

    SIGTERM and SIGINT end the block at once and without an error until the loop `is_running`. From then on
    the first signal requests a stop, and the second raises `Interrupted` without waiting for the photos in flight.
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

    handling = _handling({signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: reload})
    with contextlib.closing(control), contextlib.suppress(_StoppedEarlyError), handling:
        yield control
