"""Keeps a labeller running: loads its model, loads it anew, and starts another one when its processes keep dying."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Protocol

from pipeline.errors import LabelDirError
from pipeline.monitoring.daemon_stats import DaemonStats
from pipeline.records import FileRef, Row

logger = logging.getLogger(__name__)

_BACKOFF_S = (1.0, 5.0, 15.0, 60.0)


class RunningLabeller(Protocol):
    """What is needed of `pipeline.labeller.Labeller`, started."""

    @property
    def restarts(self) -> int: ...
    def rows(self, refs: Iterator[FileRef], on_wait: Callable[[], None] = ...) -> Iterator[Row]: ...
    def close(self) -> None: ...


class LabellerSupervisor:
    """`labeller` is the one that runs, None while there is none."""

    def __init__(self, start: Callable[[], RunningLabeller], stats: DaemonStats, clock: Callable[[], float]) -> None:
        self._start = start
        self._stats = stats
        self._clock = clock
        self._restart_at_s = 0.0
        self._deaths = 0
        self._restarts_before = 0
        self.labeller: RunningLabeller | None = None

    @property
    def restarts(self) -> int:
        """How many processes had to be replaced so far."""
        return self._restarts_before + (self.labeller.restarts if self.labeller else 0)

    def start(self) -> None:
        """Start the first one.

        Raises:
            ModelError, WorkerDiedError: the model cannot be loaded.
        """
        self.labeller = self._start()

    def reload(self) -> None:
        """Load the model anew; where that fails, the old one goes on."""
        try:
            labeller = self._start()
        except Exception as error:
            # Whatever is wrong with the new model, the old one works.
            logger.warning("the model cannot be loaded anew, the old one stays: %s", error)
            return
        self.close()
        self.labeller = labeller
        model = self._stats.model
        logger.info("labelling with %s from now on", model, extra={"fields": {"model": model}})

    def lose(self, error: Exception) -> None:
        """Give up the processes for now, after `error`; what they had at work is its caller's to hand out again."""
        self.close()
        self._restart_at_s = self._clock() + _BACKOFF_S[min(self._deaths, len(_BACKOFF_S) - 1)]
        self._deaths += 1
        self._stats.trouble("labelling", str(error))

    def restart_if_due(self) -> None:
        """Start another one where there is none and it is time."""
        if self.labeller is not None or self._clock() < self._restart_at_s:
            return
        try:
            self.labeller = self._start()
            self._stats.trouble("labelling", None)
        except LabelDirError as error:
            self.lose(error)

    def has_done_well(self) -> None:
        """Take note that files were labelled to the last: the next death is the first one again."""
        self._deaths = 0

    def close(self) -> None:
        """End the processes."""
        if self.labeller is not None:
            self._restarts_before += self.labeller.restarts
            self.labeller.close()
            self.labeller = None
