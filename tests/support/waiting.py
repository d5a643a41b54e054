"""Waiting for something that other processes do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

# `make soak` sets this to run the long variants: 30 s of a slow writer, 20,000 photos, 50 kills.
SCALE = int(os.environ.get("WATCH_TEST_SCALE", "1"))
PATIENCE_S = 90.0 * SCALE


def wait_until(is_true: Callable[[], object], what: str) -> None:
    """Return when `is_true` returns something true; fail if that takes absurdly long."""
    until_s = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < until_s, f"waited for {what} in vain"
        time.sleep(0.05)
