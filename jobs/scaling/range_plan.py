"""How the names of photos are cut into ranges: decided once, recorded beside the parts, and the same for all shards."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import pairwise

from pipeline.errors import UsageError
from pipeline.records import FileRef
from pipeline.sources.source import NameRange

PLAN_NAME = "ranges.json"
_FORMAT = "label-dir ranges 1"


def part_name(index: int) -> str:
    """Return the name of the part of range `index`, from 0."""
    return f"part-{index:05d}.parquet"


@dataclass(frozen=True, slots=True)
class PlannedRange:
    """One range of a plan: its number from 0, its names, and whether the store lists them in order."""

    index: int
    names: NameRange
    is_listing_sorted: bool = True

    @property
    def part_name(self) -> str:
        """The name of its part."""
        return part_name(self.index)


@dataclass(frozen=True, slots=True)
class RangePlan:
    """The last name of each range but the last one, and what was cut; `is_sorted` as of the store's listing."""

    photos: str
    cuts: tuple[str, ...]
    is_sorted: bool = True
    format: str = _FORMAT

    def ranges(self) -> list[PlannedRange]:
        """Return the ranges in order; together they hold every name."""
        ends = zip(("", *self.cuts), (*self.cuts, None), strict=True)
        return [PlannedRange(index, NameRange(*names), self.is_sorted) for index, names in enumerate(ends)]

    def to_json(self) -> bytes:
        """Return the plan as `parsed_plan` reads it."""
        return json.dumps(asdict(self), indent=0).encode()


def parsed_plan(content: bytes, told: str) -> RangePlan:
    """Return the plan that `to_json` wrote.

    Raises:
        UsageError: the content is something else; `told` is its place, for the message.
    """
    try:
        document = json.loads(content)
        plan = RangePlan(document["photos"], tuple(document["cuts"]), document["is_sorted"], document["format"])
        names = ["", *plan.cuts]
        is_text = isinstance(document["cuts"], list) and all(isinstance(name, str) for name in [plan.photos, *names])
        is_of_format = is_text and isinstance(plan.is_sorted, bool) and plan.format == _FORMAT
        is_sound = is_of_format and all(a < b for a, b in pairwise(names))
    except (ValueError, KeyError, TypeError, RecursionError):
        is_sound = False
    if not is_sound:
        raise UsageError(f"{told} is no plan of label-dir; choose another place for the parts")
    return plan


def cut(refs: Iterable[FileRef], photos: str, photos_per_range: int, is_sorted: bool) -> RangePlan:
    """Return the plan for photos that come sorted by name, each range but the last with `photos_per_range` or more."""
    cuts: list[str] = []
    count, name = 0, ""
    for ref in refs:
        # Not before a further photo comes: no range is empty. An escaped name is not in the order of a store's keys.
        if count >= photos_per_range and "\\" not in name:
            cuts.append(name)
            count = 0
        count, name = count + 1, ref.name
    return RangePlan(photos, tuple(cuts), is_sorted)
