"""Signals as wishes, for what runs until it is told to stop."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

from pipeline.errors import ExitCode, Interrupted
from pipeline.watching.wakeup import Wakeup
from pipeline.watching.wishes import Wishes


class _StoppedEarlyError(BaseException):
    """Nothing that goes wrong while a model loads, and is dealt with there, may be mistaken for it."""


def end_at_once_when_told() -> None:
    """Until `wishes_by_signal` listens: SIGTERM and Ctrl-C end this process with 0, and there is nothing to reload.

    To be called first of all: a service is stopped in the middle of its imports too, and nothing has begun then.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(ExitCode.OK))
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@contextlib.contextmanager
def wishes_by_signal() -> Iterator[tuple[Wishes, Wakeup]]:
    """Turn signals into wishes, and ring the bell at each.

    SIGTERM and Ctrl-C end the block at once, and without an error, while the wishes do not say `is_running`; then they
    are a wish to stop, and a second one does not wait for what is in flight.
    """
    wishes, wakeup = Wishes(), Wakeup()

    def stop(number: int, _: FrameType | None) -> None:
        is_second, wishes.stop = wishes.stop, True
        wakeup.ring()
        if not wishes.is_running:
            raise _StoppedEarlyError
        if is_second:
            raise Interrupted(number)

    def reload(_number: int, _frame: FrameType | None) -> None:
        wishes.reload = True
        wakeup.ring()

    handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: reload}
    before = {number: signal.getsignal(number) for number in handlers}
    try:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        yield wishes, wakeup
    except _StoppedEarlyError:
        return
    finally:
        for number, former in before.items():
            signal.signal(number, former)
        wakeup.close()
