"""Renamed and copied photos take their labels from the row that has them: the same bytes need no second look."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.records import FileRef, Row
from pipeline.sources.read_file import FileBytes, ReadLimits, read_file
from pipeline.tables.arrow import pa, pc
from pipeline.tables.merge import SortedTable

_COPIES_PER_PASS = 65_536
_DIGEST = np.dtype("S32")


@dataclass(frozen=True, slots=True)
class _Copy:
    ref: FileRef
    size_bytes: int
    mtime_us: int


class LabelReuse:
    """Finds, among files to be labelled, those whose bytes a row of the previous tables tells of.

    A file is read for this only where some row has its size. `take` gets the rows of copies, at the latest when
    `finish` returns. Memory: 40 bytes for each row of the previous tables, and 65,536 files at a time.
    """

    def __init__(
        self, previous: Sequence[SortedTable], model_id: str, limits: ReadLimits, take: Callable[[Row], None]
    ) -> None:
        self._previous = tuple(previous)
        self._model_id = model_id
        self._limits = limits
        self._take = take
        self._sizes: NDArray[np.int64] | None = None
        self._digests = np.zeros(0, _DIGEST)
        self._found: defaultdict[str, list[_Copy]] = defaultdict(list)
        self._waiting = 0

    def without(self, refs: Iterator[FileRef]) -> Iterator[FileRef]:
        """Yield the files of `refs` that are no copies."""
        for ref in refs:
            if not self._is_copy(ref):
                yield ref
            elif self._waiting >= _COPIES_PER_PASS:
                self.finish()

    def finish(self) -> None:
        """Hand over the rows of the copies found so far, in one pass over the previous tables."""
        if self._waiting:
            for rows in self._labelled_rows(("sha256",)):
                wanted = pc.is_in(rows.column("sha256"), pa.array(list(self._found), pa.string()))
                for values in _with_plain_times(rows.filter(wanted)).to_pylist():
                    for copy in self._found.pop(values["sha256"], ()):
                        self._take(_row(copy, values))
        self._found.clear()
        self._waiting = 0

    def _is_copy(self, ref: FileRef) -> bool:
        if self._sizes is None:
            self._sizes, self._digests = self._learnt()
        if not _holds(self._sizes, ref.size_bytes):
            return False
        found = read_file(ref.path, self._limits)
        if not isinstance(found, FileBytes):
            return False
        digest = hashlib.sha256(found.content)
        if not _holds(self._digests, np.array(digest.digest(), _DIGEST)):
            return False
        self._found[digest.hexdigest()].append(_Copy(ref, len(found.content), found.mtime_us))
        self._waiting += 1
        return True

    def _learnt(self) -> tuple[NDArray[np.int64], NDArray[np.bytes_]]:
        """Return the sizes and the digests of all photos that have labels of this model, each sorted."""
        sizes, digests = [np.zeros(0, np.int64)], [np.zeros(0, _DIGEST)]
        for rows in self._labelled_rows(("size_bytes", "sha256")):
            sizes.append(np.unique(rows.column("size_bytes").to_numpy()))
            content = bytes.fromhex("".join(map(str, rows.column("sha256").to_pylist())))
            digests.append(np.frombuffer(content, _DIGEST))
        return np.unique(np.concatenate(sizes)), np.sort(np.concatenate(digests))

    def _labelled_rows(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for table in self._previous:
            for batch in table.batches():
                holds = pc.and_(
                    pc.is_null(batch.column("error")), pc.equal(batch.column("model"), pa.scalar(self._model_id))
                )
                for column in columns:
                    holds = pc.and_(holds, pc.is_valid(batch.column(column)))
                yield batch.filter(holds)


def _holds(sorted_values: NDArray[np.int64] | NDArray[np.bytes_], value: object) -> bool:
    at = int(np.searchsorted(sorted_values, value))  # type: ignore[call-overload]  # numpy's stubs know no S32
    return at < len(sorted_values) and bool(sorted_values[at] == value)


def _with_plain_times(rows: pa.RecordBatch) -> pa.RecordBatch:
    at = rows.schema.get_field_index("labelled_at")
    return rows.set_column(at, "labelled_at", rows.column(at).cast(pa.int64()))


def _row(copy: _Copy, values: dict[str, Any]) -> Row:
    """Return the row of `copy`: its own name, size and time, and what `values`, the other file's row, says."""
    ranks = range(1, 1 + sum(name.startswith("label_") for name in values))
    labels = [values[f"label_{rank}"] for rank in ranks]
    return Row(
        file_name=copy.ref.name,
        error=None,
        labels=tuple(str(label) for label in labels if label is not None),
        probabilities=tuple(values[f"prob_{rank}"] for rank in ranks if values[f"prob_{rank}"] is not None),
        width=values["width"],
        height=values["height"],
        size_bytes=copy.size_bytes,
        mtime_us=copy.mtime_us,
        sha256=values["sha256"],
        model=values["model"],
        labelled_at_us=values["labelled_at"],
    )
