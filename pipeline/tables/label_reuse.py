"""Labels for renamed and copied photos: the labels of the row with the same bytes, without decoding the photo."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.system.outside_text import SHA256_PATTERN
from pipeline.records import FileRef, Row
from pipeline.sources.read_file import FileBytes, ReadLimits, read_file
from pipeline.tables.arrow import pa, pc
from pipeline.tables.foreign_format import is_label_column
from pipeline.tables.merge import SortedTable

_FILES_PER_PASS = 65_536
_DIGEST = np.dtype("S32")


class _KnownFile(NamedTuple):
    name: str
    size_bytes: int
    mtime_us: int


class LabelReuse:
    """Finds, among files to be labelled, those whose bytes a row of the previous tables has labels for.

    A file is read for this only where some row has its size. `take` gets the rows of such files, at the latest when
    `flush` returns. Memory: 40 bytes for each row of the previous tables, and 65,536 files at a time.
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
        self._found: defaultdict[str, list[_KnownFile]] = defaultdict(list)
        self._waiting = 0

    def unknown(self, refs: Iterator[FileRef]) -> Iterator[FileRef]:
        """Yield the files of `refs` whose bytes no row has labels for."""
        for ref in refs:
            if not self._is_known(ref):
                yield ref
            elif self._waiting >= _FILES_PER_PASS:
                self.flush()

    def flush(self) -> None:
        """Hand over the rows of the known files found so far, in one pass over the previous tables."""
        if self._waiting:
            for rows in self._labelled_rows("sha256"):
                wanted = pc.is_in(rows.column("sha256"), pa.array(list(self._found), pa.string()))
                for cells in _with_plain_times(rows.filter(wanted)).to_pylist():
                    for file in self._found.pop(cells["sha256"], ()):
                        self._take(_row(file, cells))
        self._found.clear()
        self._waiting = 0

    def _is_known(self, ref: FileRef) -> bool:
        if self._sizes is None:
            self._sizes, self._digests = self._sizes_and_digests()
        if not _contains(self._sizes, ref.size_bytes):
            return False
        found = read_file(ref.path, self._limits)
        if not isinstance(found, FileBytes):
            return False
        digest = hashlib.sha256(found.content)
        if not _contains(self._digests, np.array(digest.digest(), _DIGEST)):
            return False
        self._found[digest.hexdigest()].append(_KnownFile(ref.name, len(found.content), found.mtime_us))
        self._waiting += 1
        return True

    def _sizes_and_digests(self) -> tuple[NDArray[np.int64], NDArray[np.bytes_]]:
        """Return the sizes and the digests of all photos that have labels of this model, each sorted."""
        sizes, digests = [np.zeros(0, np.int64)], [np.zeros(0, _DIGEST)]
        for rows in self._labelled_rows("size_bytes", "sha256"):
            # A cell that was cut or changed outside this project is the digest of no photo.
            rows = rows.filter(pc.match_substring_regex(rows.column("sha256"), SHA256_PATTERN))
            sizes.append(np.unique(rows.column("size_bytes").to_numpy()))
            content = bytes.fromhex("".join(map(str, rows.column("sha256").to_pylist())))
            digests.append(np.frombuffer(content, _DIGEST))
        return np.unique(np.concatenate(sizes)), np.sort(np.concatenate(digests))

    def _labelled_rows(self, *columns: str) -> Iterator[pa.RecordBatch]:
        """Yield the rows that have labels of this model, and values in `columns`."""
        for table in self._previous:
            for batch in table.batches():
                usable = pc.and_(
                    pc.is_null(batch.column("error")), pc.equal(batch.column("model"), pa.scalar(self._model_id))
                )
                for column in columns:
                    usable = pc.and_(usable, pc.is_valid(batch.column(column)))
                for label in filter(is_label_column, batch.schema.names):
                    # A person may have emptied one cell of a pair; the labels of such a row are not those of the model.
                    pair = (label, label.replace("label_", "prob_"))
                    usable = pc.and_(usable, pc.equal(*(pc.is_valid(batch.column(name)) for name in pair)))
                yield batch.filter(usable)


def _contains(sorted_values: NDArray[np.int64] | NDArray[np.bytes_], value: object) -> bool:
    at = int(np.searchsorted(sorted_values, value))  # type: ignore[call-overload]  # numpy's stubs know no S32
    return at < len(sorted_values) and bool(sorted_values[at] == value)


def _with_plain_times(rows: pa.RecordBatch) -> pa.RecordBatch:
    at = rows.schema.get_field_index("labelled_at")
    return rows.set_column(at, "labelled_at", rows.column(at).cast(pa.int64()))


def _row(file: _KnownFile, cells: dict[str, Any]) -> Row:
    """Return the row of `file`: its own name, size and time; the rest as in `cells`, the row with the same bytes."""
    ranks = range(1, 1 + sum(name.startswith("label_") for name in cells))
    return Row(
        file_name=file.name,
        error=None,
        labels=tuple(str(label) for rank in ranks if (label := cells[f"label_{rank}"]) is not None),
        probabilities=tuple(value for rank in ranks if (value := cells[f"prob_{rank}"]) is not None),
        width=cells["width"],
        height=cells["height"],
        size_bytes=file.size_bytes,
        mtime_us=file.mtime_us,
        sha256=cells["sha256"],
        model=cells["model"],
        labelled_at_us=cells["labelled_at"],
        is_unsure=cells["status"] == "unsure",
    )
