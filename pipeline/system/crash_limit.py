"""When workers die too often for photos to be the cause."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from pipeline.errors import WorkerDiedError

_SUSPECTS = 64
_WINDOW_S = 60.0


class CrashLimit:
    """Counts the different files that workers died with within the last minute."""

    def __init__(self, kind: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._kind = kind
        self._clock = clock
        self._deaths: deque[tuple[float, str]] = deque()

    def count(self, path: str) -> None:
        """Note that a worker died while it worked on `path`.

        Raises:
            WorkerDiedError: 64 different files within a minute: the environment is at fault, not the photos.
        """
        now_s = self._clock()
        self._deaths.append((now_s, path))
        while self._deaths and now_s - self._deaths[0][0] > _WINDOW_S:
            self._deaths.popleft()
        if len({suspect for _, suspect in self._deaths}) >= _SUSPECTS:
            raise WorkerDiedError(
                f"{_SUSPECTS} {self._kind} workers died within a minute, each with another photo: look for a memory "
                "limit, a failing disk or a broken installation; what was labelled is kept"
            )
