"""A click type for the number of rows that a run may remove: 30% of them, or 100 rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pipeline.gone_guard import GoneLimit

if TYPE_CHECKING:
    from click.core import Context, Parameter


class GoneLimitType(click.ParamType[GoneLimit]):
    """An option's value as a `GoneLimit`."""

    name = "share or count"

    def convert(self, value: object, param: Parameter | None, ctx: Context | None) -> GoneLimit:
        """Return the limit; the usage error for another value shows valid ones."""
        if isinstance(value, GoneLimit):
            return value
        try:
            return GoneLimit.parse(str(value).strip())
        except ValueError:
            self.fail(f"{value!r} is neither a share such as 30% nor a number of rows", param, ctx)
