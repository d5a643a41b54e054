"""What a person says of a photo, recorded as the desk does, and what a table says of it afterwards."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from pipeline.reviews.decisions import Decision, ReviewKind
from pipeline.reviews.review_file import reviews_path
from pipeline.reviews.review_store import ReviewStore


def review(table: Path, photo: Path, label: str | None, last_id: int = 0, kind: ReviewKind = ReviewKind.CHANGE) -> str:
    """Record in the reviews beside `table` that `photo` is a `label`, and return the sha256 of the photo."""
    sha256 = hashlib.sha256(photo.read_bytes()).hexdigest()
    store = ReviewStore(reviews_path(table), lambda: 0)
    recorded = store.record(f"request-{store.last_id() + 1}", "ann", [Decision(sha256, kind, None, label, last_id)])
    store.close()
    assert recorded.conflicts == ()
    return sha256


def reviewed(table: Path) -> dict[str, str]:
    """Return the label that persons gave each file of `table`, of those that have one."""
    frame = pd.read_csv(table) if table.suffix == ".csv" else pq.read_table(table).to_pandas()
    assert "reviewed_label" in frame.columns
    found: list[dict[Hashable, Any]] = frame.dropna(subset="reviewed_label").to_dict("records")
    return {str(row["file_name"]): str(row["reviewed_label"]) for row in found}
