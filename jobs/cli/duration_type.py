"""A click type for durations: 2s, 500ms, 5m, 1h, or plain seconds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.core import Context, Parameter

_UNITS_S = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|)")


class Duration(click.ParamType[float]):
    """An option's value as seconds, at least `minimum_s` and at most a week."""

    name = "duration"

    def __init__(self, minimum_s: float) -> None:
        self._minimum_s = minimum_s

    def convert(self, value: object, param: Parameter | None, ctx: Context | None) -> float:
        """Return `value` in seconds; the usage error for another value shows valid ones."""
        match = _DURATION.fullmatch(str(value).strip())
        if match is None:
            self.fail(f"{value!r} is no duration; write for example 2s, 500ms, 5m or 1h", param, ctx)
        seconds = float(match[1]) * _UNITS_S[match[2]]
        if not self._minimum_s <= seconds <= 7 * 86400:
            self.fail(f"{value!r} is not between {self._minimum_s:g}s and 168h", param, ctx)
        return seconds
