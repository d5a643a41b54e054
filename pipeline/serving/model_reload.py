"""A model that is loaded again while the old one goes on labelling."""

from __future__ import annotations

import threading
from collections.abc import Callable

from pipeline.labeller import Labeller

_PATIENCE_S = 10.0


class ModelReload:
    """Calls `start` in a thread of its own, then `on_end` there; `labeller` is what it returned, or `error` why not.

    The kernel ends workers with the thread that started them, so the thread stays until `release`.
    """

    def __init__(self, start: Callable[[], Labeller], on_end: Callable[[], None]) -> None:
        self.labeller: Labeller | None = None
        self.error: Exception | None = None
        self._start = start
        self._on_end = on_end
        self._over = threading.Event()
        self._released = threading.Event()
        # A daemon: a model on a network share that hangs keeps no server from ending.
        threading.Thread(target=self._run, name="reload", daemon=True).start()

    @property
    def is_over(self) -> bool:
        """Whether there is a labeller or an error."""
        return self._over.is_set()

    def release(self) -> None:
        """Let the thread end; the labeller must be closed."""
        self._released.set()

    def give_up(self) -> None:
        """Close the labeller, unless `start` does not return."""
        if self._over.wait(_PATIENCE_S) and self.labeller is not None:
            self.labeller.close()
        self.release()

    def _run(self) -> None:
        try:
            self.labeller = self._start()
        except Exception as error:
            # Whatever is wrong with the new model, the old one works.
            self.error = error
        self._over.set()
        self._on_end()
        if self.labeller is not None:
            self._released.wait()
