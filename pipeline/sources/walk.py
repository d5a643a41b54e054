"""Folder -> Iterator[FileRef]: names in the order of the table; no file is opened."""

from __future__ import annotations

import errno
import math
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.records import FileRef, mtime_us_of
from pipeline.sources.file_names import display_name
from pipeline.sources.photo_names import name_filter, pattern_matcher, unread_kind


@dataclass(frozen=True, slots=True)
class WalkRules:
    """Which names belong to the run.

    `include` and `exclude` are shell patterns on the name relative to the folder; a pattern without a slash matches
    the last part of the name alone. `include` replaces the test of the file's ending. `avoid` holds absolute paths
    that are never entered: the output and its state folder. Files last changed before `modified_since_us` (UTC) are
    skipped.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    follow_links: bool = False
    avoid: frozenset[str] = frozenset()
    modified_since_us: int | None = None


@dataclass(slots=True)
class WalkCounts:
    """How much the walk has entered and skipped so far.

    `unread_kinds` counts, among the skipped files, those that may be photos of a kind that is not decoded, by ending.
    """

    skipped: int = 0
    unread_kinds: Counter[str] = field(default_factory=Counter)
    skipped_links: int = 0
    folders: int = 0
    unreadable_folders: list[str] = field(default_factory=list)

    def is_unreadable(self, name: str) -> bool:
        """Tell whether the file `name` would be below a folder that could not be listed."""
        return any(name.startswith(folder) for folder in self.unreadable_folders)


@dataclass(frozen=True, slots=True)
class _Folder:
    path: str
    prefix: str
    ancestors: tuple[tuple[int, int], ...]


def walk(
    folder: Path,
    rules: WalkRules,
    counts: WalkCounts,
    prefix: str = "",
    is_sorted: bool = True,
    note_hidden: Callable[[str], object] = lambda path: None,
) -> Iterator[FileRef]:
    """Yield the image files below `folder`, sorted by row name, in memory bounded by the largest single folder.

    `prefix` is put before every name: "a/b/" where `folder` is the folder a/b of the run. Unsorted, the files come in
    the order of the file system, in memory that does not depend on their number.

    Hidden entries, files with other endings, links (unless followed) and entries that are no regular files are counted
    in `counts`, not yielded; `note_hidden` gets the path of each hidden entry. A file that vanished before its `stat`
    is not yielded; a file whose `stat` fails for another reason is yielded with size and time 0.

    Raises:
        OSError: `folder` itself cannot be listed.
    """
    scanner = _Scanner(rules, counts, note_hidden)
    scan = scanner.scan if is_sorted else scanner.scan_unsorted
    stack = [scan(_Folder(str(folder), prefix, scanner.identity(str(folder))))]
    counts.folders += 1
    while stack:
        for found in stack[-1]:
            if isinstance(found, FileRef):
                yield found
                continue
            try:
                stack.append(scan(found))
                counts.folders += 1
            except FileNotFoundError:
                pass
            except OSError:
                counts.unreadable_folders.append(found.prefix)
            break
        else:
            stack.pop()


class _Scanner:
    """Lists single folders by the rules of a walk."""

    def __init__(self, rules: WalkRules, counts: WalkCounts, note_hidden: Callable[[str], object]) -> None:
        self._rules = rules
        self._counts = counts
        self._note_hidden = note_hidden
        self._wanted = name_filter(rules.include, rules.exclude)
        self._excludes = pattern_matcher(rules.exclude) or (lambda name: False)

    def scan(self, folder: _Folder) -> Iterator[FileRef | _Folder]:
        """List one folder at once, so that a failure raises here; its files and folders then come in row order."""
        with os.scandir(folder.path) as entries:
            # "a/b" sorts after "a.txt" in the table, so a folder takes part under its name with the slash.
            names = sorted(self._row_keys(entries))
        return self._entries(folder, names)

    def scan_unsorted(self, folder: _Folder) -> Iterator[FileRef | _Folder]:
        """Open one folder at once, as `scan` does, and list the folder while its entries are used."""
        entries = os.scandir(folder.path)

        def listed() -> Iterator[FileRef | _Folder]:
            with entries:
                yield from self._entries(folder, self._row_keys(entries))

        return listed()

    def identity(self, path: str) -> tuple[tuple[int, int], ...]:
        """Return what tells a folder from every other where links are followed; nothing where they are not."""
        if not self._rules.follow_links:
            return ()
        try:
            facts = os.stat(path)
        except OSError:
            return ()
        return ((facts.st_dev, facts.st_ino),)

    def _row_keys(self, entries: Iterable[os.DirEntry[str]]) -> Iterator[tuple[str, str]]:
        """Yield each name as in the table, with a slash after a folder's, and as in the file system."""
        follow_links, counts = self._rules.follow_links, self._counts
        for entry in entries:
            name = entry.name
            if name[0] == ".":
                counts.skipped += 1
                self._note_hidden(entry.path)
                continue
            if not follow_links and entry.is_symlink():
                counts.skipped_links += 1
                continue
            shown = name if name.isascii() and "\\" not in name else display_name(name)
            yield (shown + "/" if _is_folder(entry, follow_links) else shown, name)

    def _entries(self, folder: _Folder, names: Iterable[tuple[str, str]]) -> Iterator[FileRef | _Folder]:
        rules, counts, wanted = self._rules, self._counts, self._wanted
        prefix, folder_path, avoid, follow_links = folder.prefix, folder.path, rules.avoid, rules.follow_links
        since_us = -math.inf if rules.modified_since_us is None else rules.modified_since_us
        for shown, name in names:
            is_folder = shown[-1] == "/"
            row_name = prefix + shown
            path = f"{folder_path}/{name}"
            if not wanted(row_name, is_folder) or path in avoid:
                if not is_folder:
                    counts.skipped += 1
                    self._note_kind(row_name, path)
                continue
            if is_folder:
                identity = self.identity(path)
                if identity and identity[0] in folder.ancestors:
                    # A followed link closes a loop.
                    counts.skipped_links += 1
                else:
                    yield _Folder(path, row_name, folder.ancestors + identity)
                continue
            try:
                facts = os.stat(path, follow_symlinks=follow_links)
            except FileNotFoundError:
                counts.skipped_links += follow_links
                continue
            except OSError as error:
                if follow_links and error.errno == errno.ELOOP:
                    counts.skipped_links += 1
                else:
                    # The file is there: opening it gives the reason, for an error row.
                    yield FileRef(row_name, path, 0, 0)
                continue
            mtime_us = mtime_us_of(facts)
            if stat.S_ISREG(facts.st_mode) and mtime_us >= since_us:
                yield FileRef(row_name, path, facts.st_size, mtime_us, facts.st_ino, facts.st_ctime_ns)
            else:
                counts.skipped += 1

    def _note_kind(self, row_name: str, path: str) -> None:
        """Count a skipped file that may be a photo and that no rule of the user skips."""
        kind = unread_kind(row_name)
        if kind and not self._rules.include and path not in self._rules.avoid and not self._excludes(row_name):
            self._counts.unread_kinds[kind] += 1


def _is_folder(entry: os.DirEntry[str], follow_links: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_links)
    except OSError:
        # A link to itself, or into a folder without permission: this entry is no folder, its neighbours are listed.
        return False
