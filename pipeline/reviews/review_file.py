"""The reviews file beside a table, opened: where it lies, its format, and why a file there is refused."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

from models.system.atomic_file import sync_folder
from models.system.outside_text import terminal_text
from pipeline.errors import InputMissingError, OutputError, UsageError
from pipeline.sources.arguments import OUT_SUFFIXES

_ENDING = ".reviews.sqlite"
# "lrev": what file(1) and every reader know the format by.
_APPLICATION_ID = 0x6C726576
_VERSION = 1
_BUSY_TIMEOUT_S = 10.0
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
# A row is never changed or removed: the state of a photo follows from its rows. The row that undoes a review names that
# review, and `request_id` makes a request that is sent twice one request.
_FORMAT = (
    """CREATE TABLE review (
    id INTEGER PRIMARY KEY,
    request_id TEXT NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('confirm', 'change', 'unknown', 'undo')),
    sha256 TEXT NOT NULL CHECK (length(sha256) = 64 AND sha256 NOT GLOB '*[^0-9a-f]*'),
    old_label TEXT,
    new_label TEXT,
    undoes INTEGER REFERENCES review (id),
    reviewer TEXT NOT NULL,
    reviewed_at_us INTEGER NOT NULL,
    CHECK ((kind = 'undo') = (undoes IS NOT NULL)),
    CHECK ((kind IN ('confirm', 'change')) = (new_label IS NOT NULL))
) STRICT""",
    "CREATE UNIQUE INDEX review_of_request ON review (request_id, sha256)",
    "CREATE INDEX review_of_photo ON review (sha256, id)",
    "CREATE UNIQUE INDEX review_undone ON review (undoes) WHERE undoes IS NOT NULL",
    """CREATE TRIGGER review_is_not_changed BEFORE UPDATE ON review
BEGIN SELECT RAISE(ABORT, 'reviews are never changed'); END""",
    """CREATE TRIGGER review_is_not_removed BEFORE DELETE ON review
BEGIN SELECT RAISE(ABORT, 'reviews are never removed'); END""",
)


def reviews_path(table: Path) -> Path:
    """Return the reviews file of a table or of a folder of parts: `labels.reviews.sqlite` beside `labels.parquet`."""
    resolved = table.resolve()
    stem = resolved.stem if resolved.suffix.lower() in OUT_SUFFIXES else resolved.name
    return resolved.with_name(stem + _ENDING)


def has_reviews_file(path: Path) -> bool:
    """Tell whether a reviews file lies at `path`.

    Raises:
        UsageError: a link, a folder or the like lies there, or beside it where SQLite keeps its log.
        InputMissingError: `path` cannot be looked at.
    """
    found = False
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        try:
            mode = os.lstat(part).st_mode
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InputMissingError(f"{told(part)} cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(mode):
            raise UsageError(f"{told(part)} is a link or no regular file, and no reviews file; move it away")
        found |= not suffix
    return found


def review_stamps(path: Path) -> list[tuple[int, int]]:
    """Return what changes with each new review: size and time of the file and of its log, nothing where none is."""
    stamps = []
    for suffix in ("", "-wal"):
        with contextlib.suppress(OSError):
            facts = os.lstat(path.with_name(path.name + suffix))
            # A log without a row comes and goes with each reader.
            if facts.st_size:
                stamps.append((facts.st_size, facts.st_mtime_ns))
    return stamps


def open_reviews(path: Path) -> sqlite3.Connection:
    """Return a connection that reads and writes the reviews file, made if it is missing; each commit is durable.

    Raises:
        UsageError: the file is of another program, of a newer version, or a link.
        InputMissingError: the file is damaged or cannot be read.
        OutputError: the file cannot be made or written.
    """
    is_new = not has_reviews_file(path)
    with reviews_errors(path, is_writing=True):
        database = _connected(path, "rwc")
        try:
            # Before the format is looked at, no other program's file is written to.
            if is_new or not _has_format(database, path):
                _make(database, path)
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            sync_folder(path.parent)
        except BaseException:
            database.close()
            raise
    return database


@contextlib.contextmanager
def reading_reviews(path: Path) -> Iterator[sqlite3.Connection | None]:
    """Give a connection that only reads the reviews file; None where there is no file, or one that is just being made.

    Raises:
        UsageError: the file is of another program, of a newer version, or a link.
        InputMissingError: the file is damaged or cannot be read, also where the block finds that out.
    """
    if not has_reviews_file(path):
        yield None
        return
    with reviews_errors(path), contextlib.closing(_connected(path, _reading_mode(path))) as database:
        yield database if _has_format(database, path) else None


@contextlib.contextmanager
def reviews_errors(path: Path, is_writing: bool = False) -> Iterator[None]:
    """Run a block that reads or writes the reviews file; an error of SQLite becomes one of ours, with path and reason.

    Raises:
        InputMissingError: the file is damaged, or cannot be read.
        OutputError: with `is_writing`, the file cannot be written.
    """
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        reason = terminal_text(error.strerror or "" if isinstance(error, OSError) else str(error))
        # The lower eight bits are the class of an error; what is above says more.
        if isinstance(error, sqlite3.Error) and (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _DAMAGED:
            raise _damaged(path, reason) from error
        if is_writing:
            raise OutputError(f"{told(path)} cannot be written: {reason}") from error
        raise InputMissingError(f"{told(path)} cannot be read: {reason}") from error


def told(path: Path) -> str:
    """Return `path` for a message."""
    return terminal_text(str(path))


def _reading_mode(path: Path) -> str:
    """Return how to open the file for reading: SQLite makes files beside one in WAL mode, or is told that it need not.

    Whoever may write there opens it so, since the last one to close the file then removes these files again.
    """
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        return "rw"
    return "ro" if path.with_name(path.name + "-wal").exists() else "ro&immutable=1"


def _connected(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    database = sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA trusted_schema = OFF")
        database.execute("PRAGMA cell_size_check = ON")
    except BaseException:
        database.close()
        raise
    return database


def _has_format(database: sqlite3.Connection, path: Path) -> bool:
    """Tell whether the tables are there; False for an empty file, left by a process that was killed at its first step.

    Raises:
        UsageError: the file is of another program, or of a newer version.
        InputMissingError: the file is damaged.
    """
    (application_id,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    made = {
        sql for (sql,) in database.execute("SELECT sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite^_%' ESCAPE '^'")
    }
    if not (application_id or version or made):
        return False
    if application_id != _APPLICATION_ID:
        raise UsageError(f"{told(path)} is no reviews file of label-dir; move it away")
    if version > _VERSION:
        raise UsageError(f"{told(path)} is of a newer version of label-dir (format {version}); update label-dir")
    if version != _VERSION or made != set(_FORMAT):
        raise _damaged(path, "its tables are not those of this format")
    (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise _damaged(path, terminal_text(str(verdict)))
    return True


def _make(database: sqlite3.Connection, path: Path) -> None:
    """Make the tables in one step; another process may have made them meanwhile."""
    database.execute("BEGIN IMMEDIATE")
    try:
        if not _has_format(database, path):
            for statement in _FORMAT:
                database.execute(statement)
            database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            database.execute(f"PRAGMA user_version = {_VERSION}")
        database.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise


def _damaged(path: Path, reason: str) -> InputMissingError:
    return InputMissingError(f"{told(path)} is damaged ({reason}); put a copy in its place, or move it away")
