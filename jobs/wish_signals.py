"""Signals as wishes, for what runs until it is told to stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from pipeline.run import Interrupted
from pipeline.wakeup import Wakeup
from pipeline.wishes import Wishes


@contextlib.contextmanager
def wishes_by_signal(wishes: Wishes, wakeup: Wakeup) -> Iterator[None]:
    """Turn signals into wishes; a second SIGTERM or Ctrl-C does not wait for what is in flight."""

    def stop(number: int, _: FrameType | None) -> None:
        if wishes.stop:
            raise Interrupted(number)
        wishes.stop = True
        wakeup.ring()

    def reload(_number: int, _frame: FrameType | None) -> None:
        wishes.reload = True
        wakeup.ring()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: reload}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
