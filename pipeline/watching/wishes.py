"""What is asked of a daemon from outside."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Wishes:
    """What signals ask for: to end, to load the model anew; `is_running` is the daemon's: it can be asked now."""

    stop: bool = False
    reload: bool = False
    is_running: bool = False
