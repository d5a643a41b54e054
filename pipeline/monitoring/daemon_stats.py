"""The figures of a daemon: counted while it works, read by its status file, its metrics and its log."""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

logger = logging.getLogger(__name__)

LAG_BOUNDS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)


@dataclass(slots=True)
class LagHistogram:
    """Seconds from the last change of a photo to its readable row; the last of `counts` is for all above the bounds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(LAG_BOUNDS_S) + 1))
    sum_s: float = 0.0

    def add(self, lag_s: float) -> None:
        """Count one photo."""
        self.counts[bisect_left(LAG_BOUNDS_S, lag_s)] += 1
        self.sum_s += lag_s


@dataclass(slots=True)
class DaemonStats:
    """The figures and the present problems; names with `at` are seconds since 1970, None before the first time.

    `unsure` counts those of the `labelled` photos whose label is below a threshold.
    """

    model: str = ""
    mode: str = ""
    labelled: int = 0
    unsure: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    unchanged: int = 0
    vanished: int = 0
    rescan_finds: int = 0
    observer_restarts: int = 0
    process_restarts: int = 0
    queue_depth: int = 0
    rows_not_durable: int = 0
    oldest_unlabelled_s: float = 0.0
    last_success_at: float | None = None
    started_at: float = field(default_factory=time.time)
    lag: LagHistogram = field(default_factory=LagHistogram)
    problems: dict[str, str] = field(default_factory=dict)

    def set_problem(self, area: str, reason: str | None) -> None:
        """Record what is wrong in one area (inbox, output, ...), or with None that nothing is; logs a change."""
        if reason is None:
            if self.problems.pop(area, None) is not None:
                logger.warning("%s: resolved", area, extra={"fields": {"trouble": area, "is_over": True}})
        elif reason != self.problems.get(area):
            self.problems[area] = reason
            logger.warning("%s: %s", area, reason, extra={"fields": {"trouble": area, "reason": reason}})

    @property
    def health(self) -> str:
        """All present problems in one line, "ok" if there are none."""
        return "; ".join(f"{area}: {reason}" for area, reason in sorted(self.problems.items())) or "ok"

    def summary(self) -> str:
        """Return the problems and the main figures in one line."""
        figures = f"{self.labelled} labelled, {self.failed.total()} failed, {self.queue_depth} waiting"
        return figures if self.health == "ok" else f"{self.health} ({figures})"

    def snapshot(self) -> dict[str, Any]:
        """Return the figures as values that JSON can hold."""
        figures = {figure.name: getattr(self, figure.name) for figure in fields(self)}
        del figures["lag"], figures["problems"]
        figures["failed"] = dict(self.failed.most_common())
        figures["oldest_unlabelled_s"] = round(self.oldest_unlabelled_s, 3)
        figures["mean_lag_s"] = round(self.lag.sum_s / max(1, sum(self.lag.counts)), 3)
        return {"health": self.health, **figures}
