"""Bucket and prefix -> Iterator[FileRef]: the keys in the order of the table; no object is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from models.system.outside_text import terminal_text
from pipeline.errors import InputMissingError, LabelDirError
from pipeline.records import FileRef
from pipeline.sources.file_names import display_name, file_system_name
from pipeline.sources.photo_names import name_filter
from pipeline.sources.store_client import error_of, etag_of, opened_store
from pipeline.sources.store_url import StoreUrl
from pipeline.sources.walk import WalkCounts, WalkRules

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

_LISTING_TIMEOUT_S = 60.0
# What S3 sends in one answer.
_KEYS_PER_CHUNK = 1000


class UnsortedListingError(LabelDirError):
    """The store lists keys in no order of names, so the whole listing has to be known before the first name is used."""


def listed(url: StoreUrl, rules: WalkRules, counts: WalkCounts, after: str | None = None) -> Iterator[FileRef]:
    """Yield the photos below `url` as the store lists them, by the same rules as files of a folder.

    Keys with a hidden part and keys without the ending of a photo are counted in `counts` and not yielded. Keys that
    end in a slash stand for folders. With `after`, the listing begins behind the photo of that name.

    Raises:
        InputMissingError: the listing fails, or, without `after`, there is no object.
    """
    wanted = _key_filter(rules, counts)
    since_us = rules.modified_since_us
    start = len(url.prefix)
    is_empty = True
    store = opened_store(url, _LISTING_TIMEOUT_S)
    for chunk in listing_pages(store, url, url.prefix + file_system_name(after) if after else None):
        for entry in chunk:
            is_empty = False
            key = entry["path"]
            name = key[start:]
            if not wanted(name) or (not entry["size"] and _stands_for_a_folder(store, key)):
                continue
            # A float of seconds holds the milliseconds of a listing exactly once rounded to microseconds.
            mtime_us = round(entry["last_modified"].timestamp() * 1e6)
            if since_us is not None and mtime_us < since_us:
                counts.skipped += 1
                continue
            shown = name if name.isascii() and "\\" not in name else display_name(name)
            yield FileRef(shown, key, entry["size"], mtime_us, etag=etag_of(entry))
    if is_empty and after is None:
        raise InputMissingError(f"{terminal_text(str(url))} holds no object")


def in_order(refs: Iterator[FileRef]) -> Iterator[FileRef]:
    """Yield `refs` as they come, a page at a time: most unsorted listings are found before any object is requested.

    Raises:
        UnsortedListingError: a name does not come after the one before.
    """
    last = ""
    while page := list(islice(refs, _KEYS_PER_CHUNK)):
        for ref in page:
            if ref.name <= last:
                raise UnsortedListingError("the store does not list keys by name")
            last = ref.name
        yield from page


def sorted_whole(refs: Iterator[FileRef]) -> Iterator[FileRef]:
    """Yield `refs` by name, each name once; all are held in memory, some 400 bytes each."""
    last = None
    for ref in sorted(refs):
        if ref.name != last:
            yield ref
        last = ref.name


def _stands_for_a_folder(store: ObjectStore, key: str) -> bool:
    """Tell whether there is no object of this key: the client library drops the slash at the end of a folder's key.

    It takes a request, which only empty objects with the ending of a photo need.
    """
    import obstore

    try:
        obstore.head(store, key)
    except FileNotFoundError:
        return True
    except (obstore.exceptions.BaseError, OSError):
        # It may be listed and not read: the row of the object says so.
        return False
    return False


def listing_pages(store: ObjectStore, url: StoreUrl, offset: str | None = None) -> Iterator[Sequence[ObjectMeta]]:
    """Yield what the store says of the keys below `url`, with `offset` of those behind it, a page at a time.

    Raises:
        InputMissingError: the listing fails.
    """
    import obstore

    try:
        yield from obstore.list(store, url.prefix or None, offset=offset, chunk_size=_KEYS_PER_CHUNK)
    except (obstore.exceptions.BaseError, OSError, ValueError) as error:
        raise InputMissingError(f"{terminal_text(str(url))} cannot be listed: {error_of(error).reason}") from error


def _key_filter(rules: WalkRules, counts: WalkCounts) -> Callable[[str], bool]:
    """Return a function that tells of a key below the prefix whether it is a photo of the run."""
    wanted = name_filter(rules.include, rules.exclude)
    # Sorted keys of one folder come together, so the last answer is nearly always the next one.
    last_folder, last_answer = "", True

    def is_in_wanted_folder(folder: str) -> bool:
        nonlocal last_folder, last_answer
        if folder != last_folder:
            parts = folder.split("/")[:-1]
            last_answer = all(wanted("/".join(parts[: depth + 1]) + "/", True) for depth in range(len(parts)))
            last_folder = folder
        return last_answer

    def is_photo(name: str) -> bool:
        if not name or name[-1] == "/":
            return False
        is_hidden = name[0] == "." or "/." in name
        if is_hidden or not wanted(name, False):
            counts.skipped += 1
            return False
        if rules.exclude and not is_in_wanted_folder(name[: name.rfind("/") + 1]):
            counts.skipped += 1
            return False
        return True

    return is_photo
