"""How signal handlers and threads reach the main loop of a watcher: requests to stop or reload, and a wakeup."""

from __future__ import annotations

import contextlib
import os
import select
from dataclasses import dataclass


@dataclass(slots=True)
class StopRequests:
    """What signals ask for: to end, to load the model anew; `is_running` is the daemon's: it can be asked now."""

    stop: bool = False
    reload: bool = False
    is_running: bool = False


class Wakeup:
    """A pipe: `ring` never blocks and is safe in a signal handler, `wait` returns early when it rang."""

    def __init__(self) -> None:
        self._ear, self._mouth = os.pipe()
        os.set_blocking(self._ear, False)
        os.set_blocking(self._mouth, False)

    def ring(self) -> None:
        """End the wait of the loop, the current one or else the next."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._mouth, b"!")

    def wait(self, timeout_s: float) -> None:
        """Return when it rang, or after `timeout_s`."""
        if select.select([self._ear], [], [], max(0.0, timeout_s))[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(self._ear, 65536)

    def close(self) -> None:
        """Give the pipe back."""
        os.close(self._ear)
        os.close(self._mouth)
