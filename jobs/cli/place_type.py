"""The type of a command-line argument that names photos: a folder, or a URL of an object store."""

from __future__ import annotations

from typing import Any

import click

from pipeline.errors import UsageError
from pipeline.sources.store_url import Place, parsed_place


class PlaceType(click.ParamType[Place]):
    """A path, or s3://BUCKET/PREFIX/ and the like."""

    name = "path or url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        """Parse the text, which comes from the command line or from an environment variable."""
        try:
            return parsed_place(value) if isinstance(value, str) else value
        except UsageError as error:
            self.fail(str(error), param, ctx)
