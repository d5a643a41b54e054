"""A row as the cells of its columns, in the order of the table; needs no Arrow."""

from __future__ import annotations

from pipeline.records import Row

_BEFORE_LABELS = ("file_name", "status", "error")
_AFTER_LABELS = ("width", "height", "size_bytes", "mtime", "sha256", "model", "labelled_at")


def column_names(top_k: int) -> tuple[str, ...]:
    """Return the names of the columns of a table with `top_k` label and probability pairs."""
    pairs = (name for rank in range(1, top_k + 1) for name in (f"label_{rank}", f"prob_{rank}"))
    return (*_BEFORE_LABELS, *pairs, *_AFTER_LABELS)


def cells_of(row: Row, top_k: int) -> tuple[object, ...]:
    """Return the cells of `row`; times are microseconds since 1970 (UTC)."""
    missing = [None] * (top_k - len(row.labels))
    pairs = zip([*row.labels, *missing], [*row.probabilities, *missing], strict=True)
    return (
        row.file_name,
        "error" if row.error else "unsure" if row.is_unsure else "ok",
        str(row.error) if row.error else None,
        *(cell for pair in pairs for cell in pair),
        row.width,
        row.height,
        row.size_bytes,
        row.mtime_us,
        row.sha256,
        row.model,
        row.labelled_at_us,
    )
