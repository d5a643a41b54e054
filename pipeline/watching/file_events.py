"""watchdog's events as hints: paths to look at in a bounded set, and proof that events still arrive."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.inotify import InotifyObserver

from pipeline.watching.settle_tracker import Hint
from pipeline.watching.watched_folder import WatchedFolder

CAPACITY_HINTS = 10_000
BEAT_EVERY_S = 10.0
_BEAT_LATE_S = 10.0
# Opening and reading make events too, and reading is what this program does all day.
_EVENTS: list[type[FileSystemEvent]] = [
    *(FileCreatedEvent, FileModifiedEvent, FileClosedEvent, FileMovedEvent, FileDeletedEvent),
    *(DirCreatedEvent, DirMovedEvent),
]
_HINTS = {"closed": Hint.CLOSED, "created": Hint.CHANGED, "modified": Hint.CHANGED, "deleted": Hint.CHANGED}


@dataclass(slots=True)
class Hints:
    """What to look at: files (each with the last thing that happened to it), folders; `scan`: some were lost."""

    files: dict[str, Hint] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    scan: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing has happened."""
        return not (self.files or self.folders or self.scan)


class FileEvents:
    """An observer of the inbox that is started, asked whether it is well, and stopped for another."""

    def __init__(self, inbox: WatchedFolder, wake: Callable[[], None], clock: Callable[[], float]) -> None:
        self._inbox = inbox
        self._wake = wake
        self._clock = clock
        self._lock = threading.Lock()
        self._hints = Hints()
        self._complaints = _Complaints(self._lost)
        self._observer = InotifyObserver(generate_full_events=True)
        self._beat_sent_s: float | None = None
        self._next_beat_s = clock()

    def start(self) -> None:
        """Begin to listen.

        Raises:
            OSError: the kernel allows no more watches (ENOSPC) or inotify instances (EMFILE), or the folder is gone.
        """
        logging.getLogger("watchdog").addHandler(self._complaints)
        try:
            self._observer.schedule(
                _Handler(self._on_event), str(self._inbox.folder), recursive=True, event_filter=_EVENTS
            )
            self._observer.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Listen no longer."""
        logging.getLogger("watchdog").removeHandler(self._complaints)
        with contextlib.suppress(RuntimeError, OSError):
            self._observer.stop()
            self._observer.join(5.0)

    def take(self) -> Hints:
        """Return what has happened since the last call."""
        with self._lock:
            hints, self._hints = self._hints, Hints()
        return hints

    def trouble(self) -> str | None:
        """Return why events cannot be relied on, None while they can; sends the next heartbeat when it is time."""
        threads = [self._observer, *self._observer.emitters]
        if not all(thread.is_alive() for thread in threads):
            return "a thread of the observer ended"
        now_s = self._clock()
        if self._beat_sent_s is not None and now_s - self._beat_sent_s > _BEAT_LATE_S:
            return f"no event for {_BEAT_LATE_S:.0f} s after the heartbeat"
        if self._inbox.has_marker and self._beat_sent_s is None and now_s >= self._next_beat_s:
            self._next_beat_s = now_s + BEAT_EVERY_S
            self._beat(now_s)
        return None

    def _beat(self, now_s: float) -> None:
        """Open and close the marker. Not write, which a full disk refuses; nor create, as its absence is telling."""
        self._beat_sent_s = now_s
        try:
            os.close(os.open(self._inbox.marker, os.O_WRONLY | os.O_CLOEXEC))
        except OSError:
            self._beat_sent_s = None

    @staticmethod
    def watch_count() -> int:
        """Return how many folders the kernel watches for this process."""
        count = 0
        for info in Path("/proc/self/fdinfo").iterdir():
            with contextlib.suppress(OSError):
                count += info.read_bytes().count(b"inotify wd:")
        return count

    def excuse(self) -> None:
        """Expect the heartbeat anew: this process was stopped and not the events."""
        self._beat_sent_s = None

    def _on_event(self, event: FileSystemEvent) -> None:
        source, target = os.fsdecode(event.src_path), os.fsdecode(event.dest_path)
        if source == str(self._inbox.marker):
            self._beat_sent_s = None
            return
        with self._lock:
            was_empty = self._hints.is_empty
            if event.event_type != "moved":
                self._hint(source, event.is_directory, _HINTS[event.event_type])
            else:
                self._hint(source, False, Hint.CHANGED)
                self._hint(target, event.is_directory, Hint.ARRIVED)
            is_first = was_empty and not self._hints.is_empty
        if is_first:
            # Whoever wakes takes all; a photo that grows write by write wakes nobody at each.
            self._wake()

    def _hint(self, path: str, is_folder: bool, hint: Hint) -> None:
        if not path or "/." in path[len(str(self._inbox.folder)) :]:
            return
        if len(self._hints.files) + len(self._hints.folders) >= CAPACITY_HINTS:
            self._hints = Hints(scan=True)
        elif is_folder:
            self._hints.folders.add(path)
        else:
            self._hints.files[path] = hint

    def _lost(self) -> None:
        with self._lock:
            self._hints.scan = True
        self._wake()


class _Handler(FileSystemEventHandler):
    def __init__(self, on_event: Callable[[FileSystemEvent], None]) -> None:
        self._on_event = on_event

    def on_any_event(self, event: FileSystemEvent) -> None:
        self._on_event(event)


class _Complaints(logging.Handler):
    """What watchdog warns of (an overflow of the kernel's queue, watches it could not set) may have cost events."""

    def __init__(self, on_complaint: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._on_complaint = on_complaint

    def emit(self, record: logging.LogRecord) -> None:
        self._on_complaint()
