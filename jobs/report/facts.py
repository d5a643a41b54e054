"""Rows -> the figures of a report: counts, commonest labels, distribution of confidence, failed files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.tables.arrow import pa, pc
from pipeline.tables.reader import top_k_of_rows
from pipeline.tables.schema import REVIEWED_LABEL

BINS = 20
_LABELS_SHOWN = 12
_UNCERTAIN_BELOW = 0.5


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a chart: its name, how many photos it stands for, and its length in percent of the longest."""

    name: str
    count: int
    percent: float


@dataclass(frozen=True, slots=True)
class Failure:
    """A file without a label."""

    name: str
    error_class: str
    reason: str


@dataclass(frozen=True, slots=True)
class Photos:
    """The labelled photos, least certain first; `labels` and `permyriads` (of 10,000) hold one list per rank.

    `unsure` holds the indices of those whose label is below a threshold. `reviewed_labels` holds what persons said,
    None where they said nothing.
    """

    names: list[str]
    labels: list[list[str | None]]
    permyriads: list[list[int]]
    widths: list[int]
    heights: list[int]
    size_bytes: list[int]
    mtimes_us: list[int]
    sha256s: list[str]
    reviewed_labels: list[str | None]
    unsure: list[int]


@dataclass(frozen=True, slots=True)
class Facts:
    """All figures of a report."""

    photo_count: int
    labelled: int
    label_count: int
    median_percent: float | None
    uncertain: int
    unsure: int
    reviewed: int
    models: list[str]
    commonest: list[Bar]
    confidence: list[Bar]
    failed_by_class: list[Bar]
    failures: list[Failure]
    photos: Photos


def facts_of(rows: pa.Table) -> Facts:
    """Return the figures of a table as `read_reviewed_rows` gives it."""
    is_labelled = pc.not_equal(rows.column("status"), pa.scalar("error"))
    labelled = rows.filter(is_labelled)
    labelled = labelled.take(pc.sort_indices(labelled, [("prob_1", "ascending"), ("file_name", "ascending")]))
    failures = [_failure(row) for row in rows.filter(pc.invert(is_labelled)).select(["file_name", "error"]).to_pylist()]
    confidence = _probabilities(labelled, 1)
    counts = Counter(labelled.column("label_1").to_pylist())
    photos = _photos(labelled)
    return Facts(
        photo_count=rows.num_rows,
        labelled=labelled.num_rows,
        label_count=len(counts),
        median_percent=float(np.median(confidence)) * 100 if len(confidence) else None,
        uncertain=int((confidence < _UNCERTAIN_BELOW).sum()),
        unsure=len(photos.unsure),
        reviewed=labelled.num_rows - labelled.column(REVIEWED_LABEL.name).null_count,
        models=sorted({str(name) for name in rows.column("model").to_pylist()}),
        commonest=_bars(sorted(((str(name), count) for name, count in counts.items()), key=_rank)[:_LABELS_SHOWN]),
        confidence=_histogram(confidence),
        failed_by_class=_bars(Counter(failure.error_class for failure in failures).most_common()),
        failures=failures,
        photos=photos,
    )


def _photos(labelled: pa.Table) -> Photos:
    ranks = range(1, top_k_of_rows(labelled) + 1)
    return Photos(
        names=_column(labelled, "file_name"),
        labels=[_column(labelled, f"label_{rank}") for rank in ranks],
        permyriads=[np.rint(_probabilities(labelled, rank) * 10_000).astype(int).tolist() for rank in ranks],
        widths=_column(labelled, "width"),
        heights=_column(labelled, "height"),
        size_bytes=_column(labelled, "size_bytes"),
        mtimes_us=[value or 0 for value in labelled.column("mtime").cast(pa.int64()).to_pylist()],
        sha256s=_column(labelled, "sha256"),
        reviewed_labels=_column(labelled, REVIEWED_LABEL.name),
        unsure=[index for index, status in enumerate(_column(labelled, "status")) if status == "unsure"],
    )


def _column(rows: pa.Table, name: str) -> list:  # type: ignore[type-arg]  # of whatever the schema says
    return rows.column(name).to_pylist()


def _probabilities(rows: pa.Table, rank: int) -> NDArray[np.float64]:
    return np.nan_to_num(rows.column(f"prob_{rank}").to_numpy().astype(np.float64)).clip(0.0, 1.0)


def _failure(row: dict[str, str | None]) -> Failure:
    error_class, _, reason = (row["error"] or "").partition(": ")
    return Failure(str(row["file_name"]), error_class, reason)


def _histogram(confidence: NDArray[np.float64]) -> list[Bar]:
    counts, _ = np.histogram(confidence, bins=BINS, range=(0.0, 1.0))
    width = 100 // BINS
    return _bars([(f"{index * width}-{(index + 1) * width}%", int(count)) for index, count in enumerate(counts)])


def _rank(entry: tuple[str, int]) -> tuple[int, str]:
    return -entry[1], entry[0].casefold()


def _bars(counts: list[tuple[str, int]]) -> list[Bar]:
    longest = max((count for _, count in counts), default=0) or 1
    return [Bar(name, count, round(100 * count / longest, 2)) for name, count in counts]
