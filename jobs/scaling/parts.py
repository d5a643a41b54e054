"""A place of parts, one for each range: a folder of this machine, or a prefix in an object store.

A part is replaced as a whole and is itself the mark that its range is done. At a store, a part is published only if the
part is still the one that was read before, so of two processes at the same range one loses, and nothing is locked.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from models.system.atomic_file import replacing
from models.system.outside_text import terminal_text
from pipeline.errors import InputMissingError, LockedError, OutputError, output_errors
from pipeline.sources.store_client import error_of, opened_store
from pipeline.sources.store_listing import listing_pages
from pipeline.sources.store_url import Place, StoreUrl

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_TIMEOUT_S = 60.0
_PART_SUFFIX = ".parquet"


class Parts(Protocol):
    """What labelling and merging need of a place of parts."""

    def created(self, name: str, content: bytes) -> bytes:
        """Write a small file unless it is there; return what is there then. Raises OutputError."""

    def small_file(self, name: str) -> bytes | None:
        """Return a small file, None where it is not there. Raises InputMissingError."""

    def opened(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """Give the path at which a run brings a part up to date; the part is published when the block ends well.

        Raises:
            LockedError: another process has replaced the part meanwhile.
            OutputError: the part cannot be read or written.
        """

    def names(self) -> list[str]:
        """Return the names of the parts, sorted. Raises InputMissingError."""


class LocalParts:
    """Parts in a folder of this machine, or of a share that several machines mount."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def created(self, name: str, content: bytes) -> bytes:
        path = self._folder / name
        with output_errors(path):
            self._folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError), tempfile.TemporaryDirectory(dir=self._folder, prefix=".") as own:
                complete = Path(own) / name
                with replacing(complete) as stream:
                    stream.write(content)
                # A link, and not a rename, fails where another process was first.
                path.hardlink_to(complete)
            return path.read_bytes()

    def small_file(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputMissingError(f"{self._folder / name} cannot be read: {error.strerror}") from error

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[Path]:
        yield self._folder / name

    def names(self) -> list[str]:
        try:
            return sorted(path.name for path in self._folder.iterdir() if _is_part(path.name))
        except OSError as error:
            raise InputMissingError(f"{self._folder} cannot be read: {error.strerror}") from error

    def path_of(self, name: str) -> Path:
        """Return the path of a part."""
        return self._folder / name


class StoredParts:
    """Parts below a prefix of an object store; while a range is labelled, its part is in a temporary folder."""

    def __init__(self, url: StoreUrl) -> None:
        self._url = url
        self._opened: ObjectStore | None = None

    def created(self, name: str, content: bytes) -> bytes:
        import obstore

        with contextlib.suppress(obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError):
            self._put(name, content, "create")
            return content
        found = self.small_file(name)
        if found is None:
            raise OutputError(f"{self._told(name)} was removed while it was read")
        return found

    def small_file(self, name: str) -> bytes | None:
        found = self.content(name)
        return None if found is None else found[0]

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[Path]:
        import obstore

        with tempfile.TemporaryDirectory(prefix="label-dir-") as scratch:
            path = Path(scratch) / name
            before = self.content(name)
            if before is not None:
                path.write_bytes(before[0])
            yield path
            with output_errors(path):
                content = path.read_bytes()
            if before is not None and content == before[0]:
                return
            try:
                self._put(name, content, "create" if before is None else before[1])
            except (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError):
                raise LockedError(f"{self._told(name)} was replaced by another process meanwhile") from None

    def names(self) -> list[str]:
        start = len(self._url.prefix)
        found = [entry["path"][start:] for page in listing_pages(self._store, self._url) for entry in page]
        return sorted(name for name in found if _is_part(name) and "/" not in name)

    def content(self, name: str) -> tuple[bytes, dict[str, Any]] | None:
        """Return an object and its version, None where it is not there. Raises InputMissingError."""
        import obstore

        try:
            answer = obstore.get(self._store, self._url.prefix + name)
            # The client takes no None: a bucket without versions has only ETags.
            version = {"e_tag": answer.meta["e_tag"], "version": answer.meta["version"]}
            return bytes(answer.bytes()), {name: value for name, value in version.items() if value is not None}
        except FileNotFoundError:
            return None
        except (obstore.exceptions.BaseError, OSError, ValueError) as error:
            raise InputMissingError(f"{self._told(name)} cannot be read: {error_of(error).reason}") from error

    @property
    def _store(self) -> ObjectStore:
        # Opened late, because nothing of obstore may be in use when processes are forked.
        if self._opened is None:
            self._opened = opened_store(self._url, _TIMEOUT_S)
        return self._opened

    def _put(self, name: str, content: bytes, mode: Any) -> None:
        import obstore

        try:
            obstore.put(self._store, self._url.prefix + name, content, mode=mode, use_multipart=False)
        except (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError):
            raise
        except (obstore.exceptions.BaseError, OSError, ValueError) as error:
            raise OutputError(f"{self._told(name)} cannot be written: {error_of(error).reason}") from error

    def _told(self, name: str) -> str:
        return terminal_text(f"{self._url}{name}")


def _is_part(name: str) -> bool:
    # A Mac leaves a hidden file `._NAME` beside each on foreign disks.
    return name.endswith(_PART_SUFFIX) and not name.startswith(".")


def parts_at(place: Place) -> LocalParts | StoredParts:
    """Return the parts at a place of this machine or of an object store."""
    return StoredParts(place) if isinstance(place, StoreUrl) else LocalParts(place)
