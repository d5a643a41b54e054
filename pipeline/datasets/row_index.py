"""Which photos have a row already: a compact index on disk, derived from the parts; a damaged index is built again."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from models.system.outside_text import is_sha256
from pipeline.records import FileRef, Row

logger = logging.getLogger(__name__)

_DIGEST_BYTES = 16
_NAMES_PER_QUERY = 256
_UNKNOWN, _UNTRUSTED = 0, -1
# `rows` and `checksum` are of the rows that are in the index, the first of the part.
_TABLES = """
CREATE TABLE part (
    path TEXT PRIMARY KEY, size_bytes INTEGER, mtime_ns INTEGER, rows INTEGER, checksum INTEGER
) WITHOUT ROWID;
CREATE TABLE photo (
    name TEXT, identity BLOB, size_bytes INTEGER, mtime_us INTEGER, ctime_ns INTEGER, inode INTEGER,
    PRIMARY KEY (name, identity)
) WITHOUT ROWID;
"""
_SCHEMA_QUERY = "SELECT type, name, sql FROM sqlite_master ORDER BY name"
# SQLite keeps values of any type in a column of any type.
_ODD_ROWS_QUERY = """
SELECT 1 FROM photo WHERE typeof(name) != 'text' OR typeof(identity) != 'blob' OR length(identity) = 0
    OR typeof(size_bytes) || typeof(mtime_us) || typeof(ctime_ns) || typeof(inode) != 'integerintegerintegerinteger'
UNION ALL SELECT 1 FROM part WHERE typeof(path) != 'text'
    OR typeof(size_bytes) || typeof(mtime_ns) || typeof(rows) || typeof(checksum) != 'integerintegerintegerinteger'
LIMIT 1
"""
_CHECKSUM_MASK = (1 << 56) - 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A row's name and `identity` (see `identity_of`), and the file's `stat` when the file was last seen.

    `ctime_ns` and `inode` are 0 where they are unknown: the parts do not hold them.
    """

    name: str
    identity: bytes
    size_bytes: int
    mtime_us: int
    ctime_ns: int = _UNKNOWN
    inode: int = _UNKNOWN

    @property
    def is_labelled(self) -> bool:
        """Whether the row has labels, not an error."""
        return self.identity[0] == 1

    def is_of(self, ref: FileRef) -> bool:
        """Tell whether the file is unchanged since the row, as far as `stat` can tell."""
        return (
            (self.size_bytes, self.mtime_us) == (ref.size_bytes, ref.mtime_us)
            and self.ctime_ns in (_UNKNOWN, ref.ctime_ns)
            and (self.inode == ref.inode or _UNKNOWN in (self.inode, ref.inode))
        )


@dataclass(frozen=True, slots=True)
class PartStamp:
    """A part as it was when the index read it: its path below the output folder, and its `stat`."""

    path: str
    size_bytes: int
    mtime_ns: int


def identity_of(sha256: str | None, error: str | None, size_bytes: int) -> bytes:
    """Return the identity of a row besides its name: the file's content, or without labels the error and the size.

    The first byte is 1 for a photo that was labelled, else 0.
    """
    if is_sha256(sha256) and error is None:
        return b"\1" + bytes.fromhex(sha256)
    return b"\0" + hashlib.blake2b(f"{size_bytes} {error}".encode(), digest_size=_DIGEST_BYTES).digest()


def entry_of(row: Row, ref: FileRef | None = None) -> Entry:
    """Return the entry of a row; `ref` is the file as it was before and after it was read, if that is known."""
    identity = identity_of(row.sha256, None if row.error is None else str(row.error), row.size_bytes)
    ctime_ns, inode = (_UNKNOWN, _UNKNOWN) if ref is None else (ref.ctime_ns, ref.inode)
    return Entry(row.file_name, identity, row.size_bytes, row.mtime_us, ctime_ns, inode)


class RowIndex:
    """The index file at `path`; every method but `close` raises OSError where the file cannot be read or written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with _as_os_error():
            try:
                self._database = _opened(path)
            except (sqlite3.DatabaseError, UnicodeDecodeError):
                logger.warning("the index of the labels is damaged or of another version; it is built again from them")
                self._remove_file()
                self._database = _opened(path)

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def parts(self) -> set[PartStamp]:
        """Return the parts whose rows are in the index."""
        with _as_os_error():
            return {PartStamp(*row) for row in self._database.execute("SELECT path, size_bytes, mtime_ns FROM part")}

    def clear(self) -> None:
        """Remove all parts and entries."""
        with _as_os_error(), self._database:
            self._database.execute("DELETE FROM part")
            self._database.execute("DELETE FROM photo")

    def record(self, part: PartStamp, new: Sequence[Entry]) -> None:
        """Note in one step that `part` holds the rows of `new` behind those that are in the index already."""
        with _as_os_error(), self._database:
            # A part does not record ctime and inode, so an entry made of a part never replaces one that has them.
            self._database.executemany(
                "INSERT INTO photo VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                " size_bytes = excluded.size_bytes, mtime_us = excluded.mtime_us,"
                " ctime_ns = excluded.ctime_ns, inode = excluded.inode WHERE excluded.ctime_ns != 0",
                map(astuple, new),
            )
            rows, checksum = self._indexed_rows(part.path)
            self._database.execute(
                "INSERT OR REPLACE INTO part VALUES (?, ?, ?, ?, ?)",
                (*astuple(part), rows + len(new), (checksum + _checksum(new)) & _CHECKSUM_MASK),
            )

    def rows_after(self, path: str, entries: Sequence[Entry]) -> Sequence[Entry] | None:
        """Return those `entries`, of all rows of the part `path` in order, that are not in the index yet.

        Returns None where the rows that the index has of the part are not its first ones: another part lies there, such
        as one from a backup.
        """
        with _as_os_error():
            rows, checksum = self._indexed_rows(path)
        is_grown = rows <= len(entries) and _checksum(entries[:rows]) == checksum
        return entries[rows:] if is_grown else None

    def _indexed_rows(self, path: str) -> tuple[int, int]:
        query = "SELECT rows, checksum FROM part WHERE path = ?"
        rows, checksum = self._database.execute(query, (path,)).fetchone() or (0, 0)
        return rows, checksum

    def update_stat(self, entries: Iterable[Entry]) -> None:
        """Note the new `stat` of files whose content already has its row."""
        with _as_os_error(), self._database:
            self._database.executemany(
                "UPDATE photo SET mtime_us = ?, ctime_ns = ?, inode = ? WHERE name = ? AND identity = ?",
                ((entry.mtime_us, entry.ctime_ns, entry.inode, entry.name, entry.identity) for entry in entries),
            )

    def distrust(self, entry: Entry) -> None:
        """Note that a file with the `stat` of `entry` has other bytes: `find` returns this entry no more."""
        self.update_stat([replace(entry, ctime_ns=_UNTRUSTED)])

    def contains(self, entry: Entry) -> bool:
        """Tell whether this content has its row under this name, whatever the file's time."""
        query = "SELECT 1 FROM photo WHERE name = ? AND identity = ?"
        with _as_os_error():
            return self._database.execute(query, (entry.name, entry.identity)).fetchone() is not None

    def find(self, refs: Sequence[FileRef]) -> dict[str, Entry]:
        """Return, by name, the entries of those files that are unchanged since their row, as far as `stat` can tell.

        An entry without inode and ctime, from a part, learns them here. Where a name has several such entries of the
        same size and time, none is returned: only the bytes can tell.
        """
        found: dict[str, Entry] = {}
        unsure: dict[str, list[Entry]] = {}
        with _as_os_error():
            for begin in range(0, len(refs), _NAMES_PER_QUERY):
                some = {ref.name: ref for ref in refs[begin : begin + _NAMES_PER_QUERY]}
                query = f"SELECT * FROM photo WHERE name IN ({','.join('?' * len(some))})"
                for values in self._database.execute(query, list(some)):
                    entry = Entry(*values)
                    ref = some[entry.name]
                    if not entry.is_of(ref):
                        continue
                    if entry.ctime_ns == _UNKNOWN:
                        unsure.setdefault(entry.name, []).append(replace(entry, ctime_ns=ref.ctime_ns, inode=ref.inode))
                    else:
                        found[entry.name] = entry
        learned = [entries[0] for name, entries in unsure.items() if len(entries) == 1 and name not in found]
        if learned:
            self.update_stat(learned)
        return found | {entry.name: entry for entry in learned}

    def _remove_file(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)


def _checksum(entries: Iterable[Entry]) -> int:
    """Return a number that rows in any order have, and no other rows."""
    total = 0
    for entry in entries:
        digest = hashlib.blake2b(entry.name.encode() + b"\0" + entry.identity, digest_size=7).digest()
        total += int.from_bytes(digest, "big")
    return total & _CHECKSUM_MASK


def _opened(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=10)
    try:
        # A power cut may cost the last notes, whose parts are then read again, but must not corrupt the file.
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        if database.execute("PRAGMA quick_check").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("the index is damaged")
        found = database.execute(_SCHEMA_QUERY).fetchall()
        if not found:
            database.executescript(_TABLES)
        elif found != _schema() or database.execute(_ODD_ROWS_QUERY).fetchone() is not None:
            raise sqlite3.DatabaseError("the index is of another version, or damaged")
    except BaseException:
        database.close()
        raise
    return database


def _schema() -> list[tuple[str, str, str]]:
    with contextlib.closing(sqlite3.connect(":memory:")) as empty:
        empty.executescript(_TABLES)
        return empty.execute(_SCHEMA_QUERY).fetchall()


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise OSError(f"the index of the labels: {error}") from error
