"""Whether OUT is a place of parts, and which share of them this process labels: `--shard 3/16`, `--shard auto/16`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any

import click

from models.system.outside_text import terminal_text
from pipeline.errors import UsageError
from pipeline.sources.arguments import OUT_SUFFIXES
from pipeline.sources.store_url import Place, StoreUrl, parsed_place

_MOST_SHARDS = 100_000
_SHARD = re.compile(r"(\d{1,6}|auto)/(\d{1,6})|auto")


@dataclass(frozen=True, slots=True)
class Shard:
    """Share `number` of `count` shares, from 1."""

    number: int = 1
    count: int = 1

    def has(self, index: int) -> bool:
        """Tell whether range `index`, from 0, belongs to this share."""
        return index % self.count == self.number - 1


class ShardType(click.ParamType[Shard]):
    """`I/N` with I from 1 to N; `auto/N`, or under Slurm `auto`, takes I from the scheduler's variables."""

    name = "I/N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Shard:
        """Return the share; the usage error says what is wrong with the text or the variables."""
        if isinstance(value, Shard):
            return value
        if _SHARD.fullmatch(value) is None:
            self.fail(f"{value!r} is neither I/N (1/16 ... 16/16) nor auto/N", param, ctx)
        index, _, count = value.partition("/")
        try:
            number = _number_by_scheduler() if index == "auto" else int(index)
            shard = Shard(number, int(count) if count else int(os.environ["SLURM_ARRAY_TASK_COUNT"]))
        except KeyError as error:
            self.fail(f"{value!r} needs the environment variable {error.args[0]}", param, ctx)
        except ValueError:
            self.fail(f"{value!r}: a variable of the scheduler is no number", param, ctx)
        if not 1 <= shard.number <= shard.count <= _MOST_SHARDS:
            self.fail(f"shard {shard.number} of {shard.count} does not exist", param, ctx)
        return shard


def parts_place(out: str, is_shared: bool) -> Place | None:
    """Return the place of parts that OUT names: a URL, or a folder written with a slash; None where OUT is a table.

    Raises:
        UsageError: OUT is a table, and one process of many cannot write it; or the URL is not usable.
    """
    place = parsed_place(out)
    is_table = out.lower().endswith(OUT_SUFFIXES)
    if is_table and (is_shared or isinstance(place, StoreUrl)):
        raise UsageError(
            f"{terminal_text(out)} is one table; name a place of parts, with a slash at the end, and make one table of "
            "them with label-merge"
        )
    return place if is_shared or isinstance(place, StoreUrl) or out.endswith("/") else None


def _number_by_scheduler() -> int:
    """Return the number of this task, from 1; raises KeyError where no scheduler says so, ValueError for no number."""
    if (kubernetes := os.environ.get("JOB_COMPLETION_INDEX")) is not None:
        return int(kubernetes) + 1
    if "SLURM_ARRAY_TASK_ID" not in os.environ:
        raise KeyError("JOB_COMPLETION_INDEX or SLURM_ARRAY_TASK_ID")
    return int(os.environ["SLURM_ARRAY_TASK_ID"]) - int(os.environ.get("SLURM_ARRAY_TASK_MIN", "1")) + 1
