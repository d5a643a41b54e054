"""What is asked of a daemon from outside."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Wishes:
    """What signals ask for: to end, to load the model anew."""

    stop: bool = False
    reload: bool = False
