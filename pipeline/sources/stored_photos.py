"""Photos in an object store as the source of a run, and the source of any place that a user names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipeline.records import FileRef
from pipeline.sources.local_files import LocalFolder
from pipeline.sources.read_file import ReadLimits
from pipeline.sources.source import NameRange, Source
from pipeline.sources.store_listing import in_order, listed, sorted_whole
from pipeline.sources.store_reader import StoreReader
from pipeline.sources.store_url import Place, StoreUrl
from pipeline.sources.walk import WalkCounts, WalkRules

# Stacks and heaps of 32 threads, of which most is only reserved, and the objects that wait to be decoded.
_READER_MEMORY_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class StoredPhotos:
    """The photos below a prefix; `is_sorted` False where the store is known to list keys in no order of names."""

    url: StoreUrl
    is_sorted: bool = True
    names: NameRange | None = None
    is_remote: bool = True
    reads_ahead: bool = True
    memory_bytes: int = _READER_MEMORY_BYTES

    def list(self, rules: WalkRules, counts: WalkCounts) -> Iterator[FileRef]:
        """Yield the photos by name.

        Raises:
            InputMissingError: there is no object, or the listing fails.
            UnsortedListingError: the store does not list keys by name.
        """
        after = self.names.after if self.names is not None and self.is_sorted else None
        refs = listed(self.url, rules, counts, after)
        if self.names is not None:
            refs = self.names.of(refs, self.is_sorted)
        return in_order(refs) if self.is_sorted else sorted_whole(refs)

    def sorted_first(self) -> StoredPhotos:
        """Return the same photos, for a store that lists keys in no order of names."""
        return replace(self, is_sorted=False)

    def within(self, names: NameRange) -> StoredPhotos:
        """Return the photos in a range of names, whose listing begins and ends there."""
        return replace(self, names=names)

    def open(self, limits: ReadLimits, timeout_s: float) -> StoreReader:
        """Return a reader that has sent nothing yet."""
        return StoreReader(self.url, limits, timeout_s)


def source_at(place: Place) -> Source:
    """Return the source of the photos at a place of this machine or of an object store."""
    return StoredPhotos(place) if isinstance(place, StoreUrl) else LocalFolder(folder=place)
