"""Progress bars on stderr: nothing where stderr is no terminal."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
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


@contextlib.contextmanager
def thumbnail_bar(is_enabled: bool) -> Iterator[Callable[[int, int], None]]:
    """Give a function that takes how many thumbnails are made, and of how many; no bar where stderr is no terminal."""
    from tqdm import tqdm

    tqdm.monitor_interval = 0
    is_hidden = not is_enabled or not sys.stderr.isatty()
    with tqdm(unit=" thumbnails", dynamic_ncols=True, leave=False, file=sys.stderr, disable=is_hidden) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
