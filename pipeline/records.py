"""The records that pass between stages: small, frozen and typed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple


class ErrorClass(StrEnum):
    """The closed list of reasons a file may have no label; `error` cells read `class: reason`.

    - empty: the file has no bytes.
    - truncated: the data ends before the picture does; half a picture is never labelled.
    - not_an_image: the content is no picture of a known format, whatever the name says.
    - unsupported_format: a picture of a format that is not decoded (SVG, PDF, raw ...), or whose plugin is missing.
    - too_large: more bytes or pixels than the limits allow, or more memory than a decoder may have.
    - permission: no permission to read the file.
    - vanished: the file was gone when it was to be read.
    - changed: the file changed each time it was read.
    - io: the disk or the file system failed, or the entry is no regular file.
    - timeout: decoding the photo took longer than the time for one photo.
    - worker_crash: processes died with this photo at each attempt.
    - decode: the picture is damaged.
    """

    EMPTY = "empty"
    TRUNCATED = "truncated"
    NOT_AN_IMAGE = "not_an_image"
    UNSUPPORTED_FORMAT = "unsupported_format"
    TOO_LARGE = "too_large"
    PERMISSION = "permission"
    VANISHED = "vanished"
    CHANGED = "changed"
    IO = "io"
    TIMEOUT = "timeout"
    WORKER_CRASH = "worker_crash"
    DECODE = "decode"


# Errors that may pass without a change of the file: the next run retries an unchanged file with such an error.
PASSING_ERRORS = frozenset({ErrorClass.PERMISSION, ErrorClass.VANISHED, ErrorClass.CHANGED, ErrorClass.IO})


_FIRST_US, _LAST_US = -62_135_596_800_000_000, 253_402_300_799_999_999


def mtime_us_of(facts: os.stat_result) -> int:
    """Return a file's time of change in microseconds since 1970 (UTC), brought into the years 1 to 9999.

    A camera with a broken clock writes later years, which neither Python nor a CSV reader can show.
    """
    mtime_us = facts.st_mtime_ns // 1000
    if _FIRST_US <= mtime_us <= _LAST_US:
        return mtime_us
    return _FIRST_US if mtime_us < _FIRST_US else _LAST_US


class FileRef(NamedTuple):
    """A file that the walk found: the name of its row, its path and its `stat` (`mtime_us`: since 1970, UTC).

    `inode` and `ctime_ns` are 0 where they are unknown, or mean nothing on this file system. Of an object in a store,
    `path` is the key, and `etag` tells its contents apart where the store gives one.

    A tuple, because a walk makes millions: making a frozen dataclass takes three times as long.
    """

    name: str
    path: str
    size_bytes: int
    mtime_us: int
    inode: int = 0
    ctime_ns: int = 0
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why one file could not be labelled."""

    error_class: ErrorClass
    reason: str

    def __str__(self) -> str:
        return f"{self.error_class}: {self.reason}"


@dataclass(frozen=True, slots=True)
class PhotoFacts:
    """Facts about the file whose bytes were decoded; width and height are of the stored image, upright."""

    width: int
    height: int
    size_bytes: int
    mtime_us: int
    sha256: bytes
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """The files of one slot and their outcomes; the pixels of the photos lie in the slot in order, without gaps."""

    slot: int
    refs: tuple[FileRef, ...]
    outcomes: tuple[PhotoFacts | ItemError, ...]

    @property
    def photo_count(self) -> int:
        """How many photos have pixels in the slot."""
        return sum(isinstance(outcome, PhotoFacts) for outcome in self.outcomes)


@dataclass(frozen=True, slots=True)
class Prediction:
    """Top-k of one photo, most probable first, and how familiar the photo is to a taught model."""

    class_ids: tuple[int, ...]
    probabilities: tuple[float, ...]
    familiarity: float = 1.0


@dataclass(frozen=True, slots=True)
class Classified:
    """A batch with its results: one prediction or error for each of its photos, in slot order."""

    batch: Batch
    predictions: tuple[Prediction | ItemError, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: the facts of one file, and its labels or its error.

    `is_unsure` marks labels that lie below a threshold of the model or of `--min-prob`.
    """

    file_name: str
    error: ItemError | None
    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    width: int | None
    height: int | None
    size_bytes: int
    mtime_us: int
    sha256: str | None
    model: str
    labelled_at_us: int
    is_unsure: bool = False
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The counts of a run, for its last line and its exit code.

    `unsure` counts those of the `labelled` photos whose label is below a threshold. `copied` counts photos that took
    the labels of a row with the same bytes. `failed` counts error rows made in this run; `kept_failed_by_class` counts
    the error rows among the `kept` rows. `has_new_reviews` tells that persons have said something of the table's photos
    since its last run. `unread_kinds` counts, among the `skipped` files, those that may be photos of a kind that is not
    decoded, by ending.
    """

    labelled: int
    kept: int
    failed: int
    failed_by_class: Mapping[str, int]
    skipped: int
    skipped_links: int
    unreadable_folders: int
    removed: int
    elapsed_s: float
    labelling_s: float
    out: Path | str
    is_cut_short: bool = False
    copied: int = 0
    unsure: int = 0
    kept_failed_by_class: Mapping[str, int] = field(default_factory=dict)
    has_new_reviews: bool = False
    unread_kinds: Mapping[str, int] = field(default_factory=dict)

    @property
    def has_failures(self) -> bool:
        """Whether the table has error rows, or lacks files of folders that could not be listed."""
        return bool(self.failed or self.kept_failed_by_class or self.unreadable_folders)

    @property
    def images_per_s(self) -> float:
        """Photos opened (labelled or failed) per second, from the moment all processes were ready."""
        return (self.labelled + self.failed) / self.labelling_s if self.labelling_s > 0 else 0.0
