"""A click type for numbers within bounds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.core import Context, Parameter


class NumberBetween(click.FloatRange):
    """An option's value as a number between two bounds. click alone lets `nan` through, which is between none."""

    def convert(self, value: Any, param: Parameter | None, ctx: Context | None) -> float:
        """Return `value` as a number; a usage error for any other."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is no number", param, ctx)
        return number
