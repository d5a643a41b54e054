"""watchdog's events as hints: a bounded set of paths to look at, and a heartbeat that shows that events arrive."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from watchdog import events
from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers.inotify import InotifyObserver

from pipeline.watching.settle_tracker import Hint
from pipeline.watching.watched_folder import WatchedFolder

CAPACITY_HINTS = 10_000
HEARTBEAT_EVERY_S = 10.0
_HEARTBEAT_LATE_S = 10.0
# Opening and reading make events too, and this program opens and reads all day.
_EVENTS: list[type[FileSystemEvent]] = [
    *(events.FileCreatedEvent, events.FileModifiedEvent, events.FileClosedEvent, events.FileMovedEvent),
    *(events.FileDeletedEvent, events.DirCreatedEvent, events.DirMovedEvent),
]
_HINTS = {"closed": Hint.CLOSED, "created": Hint.CHANGED, "modified": Hint.CHANGED, "deleted": Hint.CHANGED}


@dataclass(slots=True)
class Hints:
    """Paths to look at: files (each with its last event) and folders; `scan` if events were dropped."""

    files: dict[str, Hint] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    scan: bool = False

    def __bool__(self) -> bool:
        return bool(self.files or self.folders or self.scan)


class FileEvents(FileSystemEventHandler):
    """An observer of the inbox: started once, asked for hints and failures, and stopped."""

    def __init__(self, inbox: WatchedFolder, wake: Callable[[], None], clock: Callable[[], float]) -> None:
        self._inbox = inbox
        self._wake = wake
        self._clock = clock
        self._lock = threading.Lock()
        self._hints = Hints()
        self._warning_handler = _WarningHandler(self._request_scan)
        self._observer = InotifyObserver(generate_full_events=True)
        self._heartbeat_sent_s: float | None = None
        self._next_heartbeat_s = clock()

    def start(self) -> None:
        """Start the threads that read events.

        Raises:
            OSError: the kernel allows no more watches (ENOSPC) or inotify instances (EMFILE), or the folder is gone.
        """
        logging.getLogger("watchdog").addHandler(self._warning_handler)
        try:
            self._observer.schedule(self, str(self._inbox.folder), recursive=True, event_filter=_EVENTS)
            self._observer.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the threads."""
        logging.getLogger("watchdog").removeHandler(self._warning_handler)
        with contextlib.suppress(RuntimeError, OSError):
            self._observer.stop()
            self._observer.join(5.0)

    def pop_hints(self) -> Hints:
        """Return what has happened since the last call."""
        with self._lock:
            hints, self._hints = self._hints, Hints()
        return hints

    def failure_reason(self) -> str | None:
        """Return why events cannot be relied on, None while they can; sends the next heartbeat when it is due."""
        threads = [self._observer, *self._observer.emitters]
        if not all(thread.is_alive() for thread in threads):
            return "a thread of the observer ended"
        now_s = self._clock()
        if self._heartbeat_sent_s is not None and now_s - self._heartbeat_sent_s > _HEARTBEAT_LATE_S:
            return f"no event for {_HEARTBEAT_LATE_S:.0f} s after the heartbeat"
        if self._inbox.has_marker and self._heartbeat_sent_s is None and now_s >= self._next_heartbeat_s:
            self._next_heartbeat_s = now_s + HEARTBEAT_EVERY_S
            self._send_heartbeat(now_s)
        return None

    def _send_heartbeat(self, now_s: float) -> None:
        """Make an event at the marker; creating the marker would hide that it is gone."""
        self._heartbeat_sent_s = now_s
        try:
            self._inbox.touch_marker()
        except OSError:
            self._heartbeat_sent_s = None

    @staticmethod
    def watch_count() -> int:
        """Return how many folders the kernel watches for this process."""
        count = 0
        for info in Path("/proc/self/fdinfo").iterdir():
            with contextlib.suppress(OSError):
                count += info.read_bytes().count(b"inotify wd:")
        return count

    def reset_heartbeat(self) -> None:
        """Forget the heartbeat that was sent: it is late because this process was suspended."""
        self._heartbeat_sent_s = None

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Keep a hint of an event; called by the observer's thread."""
        source, target = os.fsdecode(event.src_path), os.fsdecode(event.dest_path)
        if source == str(self._inbox.marker):
            self._heartbeat_sent_s = None
            return
        with self._lock:
            was_empty = not self._hints
            if event.event_type != "moved":
                self._add_hint(source, event.is_directory, _HINTS[event.event_type])
            else:
                self._add_hint(source, False, Hint.CHANGED)
                self._add_hint(target, event.is_directory, Hint.RENAMED)
            is_first = was_empty and bool(self._hints)
        if is_first:
            # The loop pops all hints when it wakes, so a photo that grows write by write does not wake it each time.
            self._wake()

    def _add_hint(self, path: str, is_folder: bool, hint: Hint) -> None:
        if not path or "/." in path[len(str(self._inbox.folder)) :]:
            return
        if len(self._hints.files) + len(self._hints.folders) >= CAPACITY_HINTS:
            self._hints = Hints(scan=True)
        elif is_folder:
            self._hints.folders.add(path)
        else:
            self._hints.files[path] = hint

    def _request_scan(self) -> None:
        with self._lock:
            self._hints.scan = True
        self._wake()


class _WarningHandler(logging.Handler):
    """Calls `on_warning` when watchdog warns of a queue overflow or a missing watch: events may have been dropped."""

    def __init__(self, on_warning: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._on_warning = on_warning

    def emit(self, record: logging.LogRecord) -> None:
        self._on_warning()
