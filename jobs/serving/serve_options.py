"""The options of `label-serve` beside those of labelling, declared as in jobs/cli/options.py; loads no numpy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import click

from jobs.cli.options import Flag, Interval

_POSITIVE = Interval(ge=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """Where the server listens, who may ask, and how much."""

    host: Annotated[str, Flag("Address to listen at; all but this computer's own need a token.")] = "127.0.0.1"
    port: Annotated[int, Interval(ge=0, le=65535), Flag("Port to listen at; 0 takes a free one.")] = 8080
    token: Annotated[str | None, Flag("Secret that clients have to send; better in a file or the environment.")] = None
    token_file: Annotated[
        Path | None, Flag("File with the token.", metavar="FILE", type=click.Path(path_type=Path))
    ] = None
    allow_host: Annotated[tuple[str, ...], Flag("Another name of this server, as of a proxy.", metavar="NAME")] = ()
    max_files: Annotated[int, Interval(ge=1, le=1000), Flag("Photos in one request.")] = 64
    max_body: Annotated[int, _POSITIVE, Flag("Bytes of one request, and so of one photo.")] = 64 << 20
    max_waiting: Annotated[int, _POSITIVE, Flag("Photos that may wait; more are refused with 503.")] = 256
