"""A bell that threads and signal handlers ring and the main loop waits for."""

from __future__ import annotations

import contextlib
import os
import select


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
