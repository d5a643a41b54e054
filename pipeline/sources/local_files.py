"""Photos in a folder of this machine: the walk lists them, and a decode worker reads each when its turn comes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.records import FileRef, ItemError
from pipeline.sources.read_file import FileBytes, ReadLimits, read_file
from pipeline.sources.source import NameRange
from pipeline.sources.walk import WalkCounts, WalkRules, walk


class LocalReader:
    """Reads files by their paths; the kernel reads ahead."""

    def __init__(self, limits: ReadLimits) -> None:
        self._limits = limits

    def expect(self, refs: Sequence[FileRef]) -> None:
        """Files need no notice."""

    def wait(self, ref: FileRef) -> None:
        """Files are read while their decoding is timed: a disk that hangs is found by the same clock."""

    def read(self, ref: FileRef) -> FileBytes | ItemError:
        """Return the whole content of the file, or why there is none."""
        return read_file(ref.path, self._limits)


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """Makes readers of files, wherever they lie."""

    reads_ahead: bool = False
    memory_bytes: int = 0

    def open(self, limits: ReadLimits, timeout_s: float) -> LocalReader:
        """Return a reader; the time for one file is that of its decoding."""
        return LocalReader(limits)


LOCAL_FILES = LocalFiles()


@dataclass(frozen=True, slots=True)
class LocalFolder(LocalFiles):
    """The photos below a folder."""

    folder: Path = Path()
    is_remote: bool = False
    names: NameRange | None = None

    def list(self, rules: WalkRules, counts: WalkCounts) -> Iterator[FileRef]:
        """Yield the files of a walk; raises as `walk` does. In a range of names nothing that is skipped is counted."""
        if self.names is None:
            return walk(self.folder.resolve(), rules, counts)
        # Each range walks the whole folder, and would count again what the others have counted.
        uncounted = WalkCounts(unreadable_folders=counts.unreadable_folders)
        return self.names.of(walk(self.folder.resolve(), rules, uncounted))

    def sorted_first(self) -> LocalFolder:
        """Return this source: a walk sorts each folder."""
        return self

    def within(self, names: NameRange) -> LocalFolder:
        """Return the files in a range of names."""
        return replace(self, names=names)
