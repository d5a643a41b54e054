"""What a person at a terminal sees while photos are labelled."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm


class ProgressBar:
    """A tqdm bar on stderr with images/s and time left; nothing at all where stderr is no terminal.

    `count` walks the folder once more, beside the run, to learn how many files there are.
    """

    def __init__(self, enabled: bool, count: Callable[[], int]) -> None:
        self._enabled = enabled and sys.stderr.isatty()
        self._count = count
        self._total: int | None = None
        self._bar: tqdm[Any] | None = None

    def begin(self) -> None:
        """Show the bar; photos are flowing from now on."""
        if not self._enabled:
            return
        from tqdm import tqdm

        tqdm.monitor_interval = 0
        self._bar = tqdm(unit=" images", smoothing=0.05, dynamic_ncols=True, leave=False, file=sys.stderr)
        threading.Thread(target=self._learn_total, daemon=True).start()

    def advance(self, kept: int) -> None:
        """Count one more photo, of a folder in which `kept` rows so far need no work."""
        if self._bar is not None:
            self._bar.total = None if self._total is None else max(self._total - kept, self._bar.n + 1)
            self._bar.update()

    def end(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _learn_total(self) -> None:
        self._total = self._count()
