"""Which folder, or URL, a table is of: recorded inside a Parquet file, in a hidden file beside a CSV file.

A run brings a table up to date with one folder. Rows of another folder's photos would be removed as vanished, or kept
for photos that only share a name, a size and a time, so a table of another folder is refused.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from models.system.atomic_file import replacing
from models.system.outside_text import terminal_text
from pipeline.errors import AnotherFolderError
from pipeline.sources.file_names import display_name
from pipeline.sources.store_url import Place, StoreUrl
from pipeline.tables.arrow import arrow_file, pq

SOURCE_KEY = b"label_dir.source"
_LONGEST_SIDECAR_BYTES = 65536


@dataclass(frozen=True, slots=True)
class TableSource:
    r"""The folder that a table is of, as absolute path and as path from the table's folder; not-UTF-8 as `\xNN`.

    Of photos in an object store, both are their URL.
    """

    photos: str
    relative: str

    def is_same_folder(self, other: TableSource) -> bool:
        """Tell whether `other` is the folder of this table: the same path, or the same way from the table to it.

        The latter is so where table and photos were moved or copied together.
        """
        return self.photos == other.photos or self.relative == other.relative


# Of a table whose record is there and cannot be read: the same folder as no other.
UNREADABLE = TableSource("a folder that its damaged record does not name", "")


def source_of(photos: Place, out: Path) -> TableSource:
    """Return the source of a table `out` that is made of the photos at `photos`."""
    if isinstance(photos, StoreUrl):
        return TableSource(str(photos), str(photos))
    folder = photos.resolve()
    # Where `out` is a link, the link lies beside the photos.
    relative = os.path.relpath(folder, out.absolute().parent.resolve())
    return TableSource(display_name(str(folder)), display_name(relative))


def recorded_source(out: Path) -> TableSource | None:
    """Return the source that the table `out` records; None where `out` is not there or says nothing of its source.

    The source is `UNREADABLE` where the record is damaged.

    Raises:
        OSError: the table, or the file beside it, cannot be read.
        pyarrow.ArrowException: `out` ends in .parquet and is no Parquet file.
    """
    if out.suffix.lower() == ".csv":
        return _parsed(_sidecar_content(sidecar_of(out))) if out.exists() else None
    if not out.exists():
        return None
    return parsed_source(pq.read_schema(arrow_file(out)).metadata)


def source_metadata(source: TableSource) -> dict[bytes, bytes]:
    """Return the entry that a Parquet table's metadata records `source` by."""
    return {SOURCE_KEY: json.dumps(asdict(source)).encode()}


def sidecar_of(out: Path) -> Path:
    """Return the hidden file beside a CSV table that records its source."""
    return out.with_name(f".{out.name}.label-dir.json")


@contextlib.contextmanager
def recording_source(out: Path, source: TableSource | None) -> Iterator[None]:
    """Write a table inside, whose source is recorded beside the table if `out` is a CSV file.

    A record of another folder goes before the table is replaced and the new one comes afterwards, so that a crash
    between leaves a table of unknown source and never one with the source of another.

    Raises:
        OSError: the record cannot be written.
    """
    sidecar = sidecar_of(out)
    is_recorded = out.suffix.lower() != ".csv" or source is None or _parsed(_sidecar_content(sidecar)) == source
    if not is_recorded:
        sidecar.unlink(missing_ok=True)
    yield
    if not is_recorded:
        assert source is not None
        with replacing(sidecar) as stream:
            stream.write(json.dumps(asdict(source)).encode())


def parsed_source(metadata: dict[bytes, bytes] | None) -> TableSource | None:
    """Return the source that the metadata of a Parquet file records, None where they say nothing of it.

    The source is `UNREADABLE` where the record is damaged.
    """
    return _parsed((metadata or {}).get(SOURCE_KEY))


def refuse_another_folder(out: Path, recorded: TableSource | None, source: TableSource) -> None:
    """Leave a table alone that is of another folder than the one a run is of.

    Raises:
        AnotherFolderError: the table `out` is of another folder.
    """
    if recorded is None or recorded.is_same_folder(source):
        return
    if recorded == UNREADABLE:
        raise AnotherFolderError(
            f"{terminal_text(str(out))} does not say any more of which folder it is, because that record is damaged",
            f"continue the table with --adopt if it is of {terminal_text(source.photos)}, or replace it with --fresh",
        )
    raise AnotherFolderError(
        f"{terminal_text(str(out))} holds the labels of {terminal_text(recorded.photos)}, not of "
        f"{terminal_text(source.photos)}",
        "choose another name, replace the table with --fresh, or, if the folder was moved, continue the table with "
        "--adopt",
    )


def _sidecar_content(path: Path) -> bytes | None:
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            return stream.read(_LONGEST_SIDECAR_BYTES)
    return None


def _parsed(content: bytes | None) -> TableSource | None:
    if content is None:
        return None
    try:
        document = json.loads(content)
        photos, relative = document["photos"], document["relative"]
        is_text = isinstance(photos, str) and isinstance(relative, str)
        # Half a surrogate pair is in no path that was recorded.
        return TableSource(photos, relative) if is_text and (photos + relative).encode() else UNREADABLE
    except (ValueError, RecursionError, TypeError, KeyError):
        return UNREADABLE
