"""What a run needs of the place where its photos lie: a sorted listing, and a reader in each decode worker."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.records import FileRef, ItemError
from pipeline.sources.read_file import FileBytes, ReadLimits
from pipeline.sources.walk import WalkCounts, WalkRules


@dataclass(frozen=True, slots=True)
class NameRange:
    """The names after `after` up to and with `until`; None: to the last name."""

    after: str = ""
    until: str | None = None

    def of(self, refs: Iterator[FileRef], is_sorted: bool = True) -> Iterator[FileRef]:
        """Yield those of `refs` whose names are in the range; if they come sorted, the rest is not asked for."""
        for ref in refs:
            if self.until is not None and ref.name > self.until:
                if is_sorted:
                    return
            elif ref.name > self.after:
                yield ref


class Reader(Protocol):
    """Reads photos for one decode worker."""

    def expect(self, refs: Sequence[FileRef]) -> None:
        """Take note of files that are to be read soon, in this order, each once; a reader may begin to read ahead."""

    def wait(self, ref: FileRef) -> None:
        """Return when `read` of this file no longer waits for a network: the decoding of a photo is timed after."""

    def read(self, ref: FileRef) -> FileBytes | ItemError:
        """Return the content of the file, or why there is none."""


class ReaderMaker(Protocol):
    """Makes the reader of a decode worker, inside that worker."""

    @property
    def reads_ahead(self) -> bool:
        """Whether its readers begin to read files when they are expected, so that early notice of files helps."""

    @property
    def memory_bytes(self) -> int:
        """How much memory a reader maps beside the file that is being decoded."""

    def open(self, limits: ReadLimits, timeout_s: float) -> Reader:
        """Return a reader for this process, which waits at most `timeout_s` for one file."""


class Source(ReaderMaker, Protocol):
    """The photos of a run."""

    @property
    def is_remote(self) -> bool:
        """Whether listing and reading go over a network: nothing is then listed or read a second time."""

    def list(self, rules: WalkRules, counts: WalkCounts) -> Iterator[FileRef]:
        """Yield the photos, sorted by row name; what is skipped is counted.

        Raises:
            OSError, InputMissingError: the photos cannot be listed.
            UnsortedListingError: names come in another order; some photos have been yielded by then.
        """

    def sorted_first(self) -> Source:
        """Return a source of the same photos that sorts its whole listing before it yields the first photo."""

    def within(self, names: NameRange) -> Source:
        """Return the source of those of the photos whose names are in a range."""
