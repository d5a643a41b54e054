"""How a daemon is: counted as it works, read by its status file, its metrics and its log."""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

logger = logging.getLogger(__name__)

LAG_BOUNDS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)


@dataclass(slots=True)
class LagHistogram:
    """Seconds from the last change of a photo to its row being readable; `counts` has one more for the slower ones."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(LAG_BOUNDS_S) + 1))
    sum_s: float = 0.0

    def add(self, lag_s: float) -> None:
        """Count one photo."""
        self.counts[bisect_left(LAG_BOUNDS_S, lag_s)] += 1
        self.sum_s += lag_s


@dataclass(slots=True)
class DaemonStats:
    """The figures; times are seconds since 1970 where a name says `at`, None where it has not happened yet."""

    model: str = ""
    mode: str = ""
    labelled: int = 0
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
    troubles: dict[str, str] = field(default_factory=dict)

    def trouble(self, what: str, reason: str | None) -> None:
        """Note that something is wrong, or (None) no longer; only a change is logged."""
        before = self.troubles.get(what)
        if reason is None:
            if self.troubles.pop(what, None) is not None:
                logger.warning("%s: well again", what, extra={"fields": {"trouble": what, "is_over": True}})
        elif reason != before:
            self.troubles[what] = reason
            logger.warning("%s: %s", what, reason, extra={"fields": {"trouble": what, "reason": reason}})

    @property
    def health(self) -> str:
        """Say what is wrong, "ok" where nothing is."""
        return "; ".join(f"{what}: {reason}" for what, reason in sorted(self.troubles.items())) or "ok"

    def sentence(self) -> str:
        """Say how things are in one line."""
        told = f"{self.labelled} labelled, {self.failed.total()} failed, {self.queue_depth} waiting"
        return told if self.health == "ok" else f"{self.health} ({told})"

    def snapshot(self) -> dict[str, Any]:
        """Return the figures as JSON knows them."""
        return {
            "health": self.health,
            "mode": self.mode,
            "model": self.model,
            "labelled": self.labelled,
            "failed": dict(self.failed.most_common()),
            "unchanged": self.unchanged,
            "vanished": self.vanished,
            "queue_depth": self.queue_depth,
            "rows_not_durable": self.rows_not_durable,
            "oldest_unlabelled_s": round(self.oldest_unlabelled_s, 3),
            "rescan_finds": self.rescan_finds,
            "observer_restarts": self.observer_restarts,
            "process_restarts": self.process_restarts,
            "last_success_at": self.last_success_at,
            "started_at": self.started_at,
            "mean_lag_s": round(self.lag.sum_s / max(1, sum(self.lag.counts)), 3),
        }
