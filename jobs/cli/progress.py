"""The progress bar of every command: on stderr, and only where stderr is a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm


class ProgressBar:
    """A tqdm bar with a rate in `unit` per second and, once the total is known, the time left."""

    def __init__(self, unit: str, is_wanted: bool) -> None:
        self.is_enabled = is_wanted and sys.stderr.isatty()
        self._unit = unit
        self._bar: tqdm[Any] | None = None

    def show(self, done: int, total: int | None, note: str = "") -> None:
        """Show that `done` items of `total` are done, and `note` after that; the first call draws the bar."""
        if not self.is_enabled:
            return
        if self._bar is None:
            from tqdm import tqdm

            # Without this tqdm starts a thread that only watches for slow updates.
            tqdm.monitor_interval = 0
            self._bar = tqdm(unit=f" {self._unit}", smoothing=0.05, dynamic_ncols=True, leave=False, file=sys.stderr)
        self._bar.total = total
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Remove the bar from the terminal."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
