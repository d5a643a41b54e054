"""What the desk's page is told of photos, reviews and progress, as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from jobs.serving.desk.table_readings import Reading
from pipeline.reviews.decisions import PhotoReview
from pipeline.tables.arrow import pa


def photos_json(reading: Reading, positions: Sequence[int]) -> list[dict[str, Any]]:
    """Return what the page shows of the photos with these numbers."""
    photos = reading.photos
    numbers = pa.array(positions, pa.int64())
    rows = photos.rows.take(numbers).to_pylist()
    old_labels = photos.old_labels.take(numbers).to_pylist()
    ranks = range(1, photos.top_k + 1)
    return [
        {
            "sha256": row["sha256"],
            "name": row["file_name"],
            "width": row["width"],
            "height": row["height"],
            "is_unsure": row["status"] == "unsure",
            "labels": [[row[f"label_{k}"], _shown(row[f"prob_{k}"])] for k in ranks if row[f"label_{k}"] is not None],
            "old_label": old_label,
            "review": review_json(reading.states.of(row["sha256"])),
        }
        for row, old_label in zip(rows, old_labels, strict=True)
    ]


def _shown(probability: float | None) -> float:
    # A table of another program may have what JSON has no number for.
    return probability if probability is not None and math.isfinite(probability) else 0.0


def review_json(state: PhotoReview) -> dict[str, Any]:
    """Return what was said of one photo."""
    return {
        "sha256": state.sha256,
        "last_id": state.last_id,
        "kind": state.kind,
        "label": state.label,
        "reviewer": state.reviewer,
        "reviewed_at_us": state.reviewed_at_us,
    }


def progress_json(reading: Reading) -> dict[str, Any]:
    """Return the counts and the estimate of accuracy."""
    progress = reading.states.progress()
    estimate = progress.accuracy
    return {
        "photos": progress.photos,
        "reviewed": progress.reviewed,
        "sample": estimate.sample,
        "right": estimate.right,
        "unknown": estimate.unknown,
        "low": estimate.low,
        "high": estimate.high,
    }
