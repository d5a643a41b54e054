"""Importing something big without the garbage collector."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def garbage_collector_paused() -> Iterator[None]:
    """Import something big inside the block: imported objects stay, so to collect meanwhile would cost a tenth more."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()
