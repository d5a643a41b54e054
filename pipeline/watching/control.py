"""How signal handlers and threads reach the main loop of a watcher: requests to stop or reload, and a wakeup."""

from __future__ import annotations

import contextlib
import os
import select


class LoopControl:
    """Requests to the main loop, and a pipe that ends its wait.

    While `is_running` is False the loop does not read `stop_requested` yet, and a signal has to end the process.
    """

    def __init__(self) -> None:
        self.stop_requested = False
        self.reload_requested = False
        self.is_running = False
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        os.set_blocking(self._write_end, False)

    def wake(self) -> None:
        """End the current wait of the loop, or else the next; never blocks, and is safe in a signal handler."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._write_end, b"!")

    def wait(self, timeout_s: float) -> None:
        """Return after a call of `wake`, or after `timeout_s`."""
        if select.select([self._read_end], [], [], max(0.0, timeout_s))[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(self._read_end, 65536)

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._read_end)
        os.close(self._write_end)
