"""Ctrl-C while a model is taught: the training so far becomes the model, or nothing does.

Before training there is nothing to keep, and the command ends. During training the first signal writes the stop file,
which ends the training after its step. Building then goes on to its end. A second signal ends everything at once, and
the model before stays as it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from jobs.cli.signals import StopSignals
from models.errors import StoppedError
from models.system.isolated_call import Notify
from models.teaching.lesson import StepsDone
from pipeline.errors import ExitCode, Interrupted

# Judging and certifying a model takes up to minutes on a busy machine.
_GRACE_S = 600
_SIGTERM = 15


class Signals(Protocol):
    """Tells which signal asked for a stop."""

    def requested(self) -> int:
        """The number of the first signal, 0 while there is none."""


class TeachingStop:
    """What the signals asked for, and what is done about it at each sign of progress."""

    def __init__(self, signals: Signals):
        self._signals = signals
        self.file: Path | None = None

    def requested(self) -> int:
        """The number of the first signal, 0 while there is none."""
        return self._signals.requested()

    def check(self) -> None:
        """Raise StoppedError where a stop is asked for and nothing is taught yet."""
        if self.requested():
            raise stopped(self.requested())

    def watching(self, notify: Notify) -> Notify:
        """A notify that passes on what it gets and acts on a stop: it writes the stop file where training goes on, and
        raises StoppedError before training."""

        def told(text: str) -> None:
            if self.requested() and isinstance(text, StepsDone):
                if not text.has_learnt or self.file is None:
                    raise stopped(self.requested())
                self.file.touch()
            notify(text)

        return told

    def counting(self, on_photo: Callable[[int, int], None]) -> Callable[[int, int], None]:
        """An `on_photo` that raises StoppedError where a stop is asked for."""

        def counted(done: int, total: int) -> None:
            self.check()
            on_photo(done, total)

        return counted


@contextlib.contextmanager
def teaching_stop() -> Iterator[TeachingStop]:
    """While entered, SIGINT and SIGTERM ask for a stop. Raises StoppedError for a second signal."""
    signals = StopSignals(_GRACE_S)
    try:
        with signals:
            yield TeachingStop(signals)
    except Interrupted as error:
        raise stopped(error.signal_number) from error
    except StoppedError as error:
        if signals.requested() == _SIGTERM:
            error.exit_code = ExitCode.TERMINATED
        raise


def stopped(signal_number: int) -> StoppedError:
    """The error of a stop that leaves everything as it was."""
    error = StoppedError("stopped: nothing new is kept, and a model of this name is as it was")
    error.exit_code = ExitCode.TERMINATED if signal_number == _SIGTERM else ExitCode.INTERRUPTED
    return error
