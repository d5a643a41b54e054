"""Keeps a labeller running: starts it, reloads its model, and restarts it with back-off when its workers keep dying.

The labeller is running, or it has failed and waits for its restart. A restart that fails begins a longer wait. A
reload that fails leaves the state as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from pipeline.monitoring.daemon_stats import DaemonStats
from pipeline.records import FileRef, Row

logger = logging.getLogger(__name__)

_BACKOFF_S = (1.0, 5.0, 15.0, 60.0)


class RunningLabeller(Protocol):
    """The part of a started `pipeline.labeller.Labeller` that watching needs."""

    @property
    def restarts(self) -> int: ...
    def rows(self, refs: Iterator[FileRef], on_wait: Callable[[], None] = ...) -> Iterator[Row]: ...
    def close(self) -> None: ...


LabellerT = TypeVar("LabellerT", bound=RunningLabeller)


class LabellerSupervisor(Generic[LabellerT]):
    """Holds the running labeller in `labeller`, None from a failure to the restart."""

    def __init__(self, start: Callable[[], LabellerT], stats: DaemonStats, clock: Callable[[], float]) -> None:
        self._start = start
        self._stats = stats
        self._clock = clock
        self._restart_at_s = 0.0
        self._failures = 0
        self._restarts_before = 0
        self.labeller: LabellerT | None = None

    @property
    def restarts(self) -> int:
        """How many worker processes have been replaced so far."""
        return self._restarts_before + (self.labeller.restarts if self.labeller else 0)

    def start(self) -> None:
        """Start the first labeller.

        Raises:
            LabelDirError: the model cannot be loaded.
        """
        self.labeller = self._start()

    def reload(self) -> bool:
        """Return True with a labeller of the model as it is now; if that fails, False, and the old labeller stays."""
        try:
            labeller = self._start()
        except Exception as error:
            # Whatever is wrong with the new model, the old one works.
            self.refuse(error)
            return False
        self.adopt(labeller)
        return True

    def adopt(self, labeller: LabellerT) -> None:
        """Close the old labeller, and go on with one that was started elsewhere."""
        self._replace(labeller)
        model = self._stats.model
        logger.info("labelling with %s from now on", model, extra={"fields": {"model": model}})

    def refuse(self, error: Exception | None) -> None:
        """Say that the model could not be loaded again and that the old labeller stays."""
        logger.warning("the model cannot be reloaded, the old one stays: %s", error)

    def back_off(self, error: Exception) -> None:
        """Close the labeller after `error` until its restart is due; the caller requeues its unfinished files."""
        self.close()
        self._restart_at_s = self._clock() + _BACKOFF_S[min(self._failures, len(_BACKOFF_S) - 1)]
        self._failures += 1
        self._stats.set_problem("labelling", str(error))

    def restart_if_due(self) -> None:
        """Start another labeller if there is none and the back-off is over."""
        if self.labeller is not None or self._clock() < self._restart_at_s:
            return
        try:
            self._replace(self._start())
        except Exception as error:
            # A model file that is missing just now, or a machine without memory for processes, may recover.
            self.back_off(error)

    def reset_backoff(self) -> None:
        """Note that files were labelled to the end: the next failure gets the shortest back-off."""
        self._failures = 0

    def close(self) -> None:
        """End the labeller's processes."""
        if self.labeller is not None:
            self._restarts_before += self.labeller.restarts
            self.labeller.close()
            self.labeller = None

    def _replace(self, labeller: LabellerT) -> None:
        self.close()
        self.labeller = labeller
        self._stats.set_problem("labelling", None)
