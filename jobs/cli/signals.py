"""Ctrl-C and SIGTERM as a wish first and an order the second time."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

from pipeline.errors import Interrupted

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
