"""The options that say how a folder is watched, the same for each door that watches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from jobs.cli.duration_type import Duration

Decorated = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class RhythmOptions:
    """What was asked for, in seconds; `poll_s` None: events where the file system gives them."""

    flush_s: float
    settle_s: float
    poll_s: float | None
    rescan_s: float


def with_rhythm_options(command: Decorated) -> Decorated:
    """Add --flush, --settle, --poll and --rescan to a command; `take_rhythm` takes them out of its options again."""
    for option in (
        click.option("--rescan", type=Duration(1), default="300s", show_default=True, help="List anyway this often."),
        click.option(
            "--poll", type=Duration(0.05), help="No events, list this often.  [default: 5s on network shares]"
        ),
        click.option("--settle", type=Duration(0), default="2s", show_default=True, help="How long a photo must rest."),
        click.option(
            "--flush", type=Duration(0.05), default="2s", show_default=True, help="At most, from label to disk."
        ),
    ):
        command = option(command)
    return command


def take_rhythm(options: dict[str, Any]) -> RhythmOptions:
    """Remove these options from `options` and return them."""
    return RhythmOptions(options.pop("flush"), options.pop("settle"), options.pop("poll"), options.pop("rescan"))
