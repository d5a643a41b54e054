"""Keeps the inbox in sight: is it there, do events arrive, and what to do where they do not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pipeline.monitoring.daemon_stats import DaemonStats
from pipeline.watching.file_events import FileEvents
from pipeline.watching.watched_folder import WatchedFolder

logger = logging.getLogger(__name__)

POLL_S = 5.0


@dataclass(frozen=True, slots=True)
class WatchIntervals:
    """How the inbox is watched: by events and a scan every `rescan_s`; with `poll_s`, by that scan alone.

    `once`: by one scan, and no more.
    """

    rescan_s: float = 300.0
    poll_s: float | None = None
    once: bool = False


class Lists(Protocol):
    """What lists the inbox when asked to: `completed` times so far, the last time entering so many `folders`."""

    completed: int
    folders: int
    error: str | None

    def request(self) -> None: ...
    def cancel(self) -> None: ...
    def set_interval(self, interval_s: float) -> None: ...


class Hears(Protocol):
    """What takes the hints of the watcher there is, if there is one."""

    watcher: FileEvents | None


class EventSupervisor:
    """Pauses while the inbox is away, replaces an observer that went deaf, polls where the kernel gives no events."""

    def __init__(
        self,
        inbox: WatchedFolder,
        scanner: Lists,
        pending_files: Hears,
        rhythm: WatchIntervals,
        stats: DaemonStats,
        wake: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._inbox = inbox
        self._scanner = scanner
        self._pending_files = pending_files
        self._rhythm = rhythm
        self._stats = stats
        self._wake = wake
        self._clock = clock
        self._blind_scans = 0
        self._scans_counted = 0
        self.is_inbox_away = False

    def enter(self) -> None:
        """See that the inbox is there, and mark it.

        Raises:
            InputMissingError: the inbox is no folder, or cannot be listed.
        """
        self._inbox.enter()

    def begin(self) -> None:
        """Begin to watch; with events, by threads."""
        if self._rhythm.once:
            self._stats.mode = "one scan"
        elif self._rhythm.poll_s is not None:
            self._stats.mode = f"polling every {self._rhythm.poll_s:g} s"
        else:
            self._start_observer()

    def end(self) -> None:
        """Watch no longer."""
        self._stop_observer()
        self._inbox.leave()

    def check(self) -> None:
        """Look whether all is as it should be; to be called about once a second."""
        reason = self._inbox.absent_because()
        self._stats.trouble("inbox", reason and f"paused: {reason}")
        if reason is not None:
            self._scanner.cancel()
        elif self.is_inbox_away:
            self._replace_observer()
        self.is_inbox_away = reason is not None
        self._stats.trouble("scan", None if self.is_inbox_away else self._scanner.error)
        if not self.is_inbox_away and self._pending_files.watcher is not None:
            self._check_observer(self._pending_files.watcher)

    def was_asleep(self) -> None:
        """Take into account that this process stood still: the kernel may have had to drop events meanwhile."""
        self._scanner.request()
        if self._pending_files.watcher is not None:
            self._pending_files.watcher.excuse()

    def _check_observer(self, watcher: FileEvents) -> None:
        if reason := watcher.trouble():
            logger.warning("the observer is replaced: %s", reason, extra={"fields": {"reason": reason}})
            self._replace_observer()
        elif self._scanner.completed > self._scans_counted:
            self._scans_counted = self._scanner.completed
            if watcher.watch_count() >= self._scanner.folders:
                self._blind_scans = 0
            elif self._blind_scans:
                self._fall_back_to_polling("the kernel allows no more watches, see fs.inotify.max_user_watches")
            else:
                # Perhaps these folders are just being made: count once more.
                self._blind_scans += 1
                self._scanner.request()

    def _start_observer(self) -> None:
        try:
            watcher = FileEvents(self._inbox, self._wake, self._clock)
            watcher.start()
        except OSError as error:
            self._fall_back_to_polling(error.strerror or str(error))
            return
        self._pending_files.watcher = watcher
        self._stats.mode = f"events and a scan every {self._rhythm.rescan_s:g} s"

    def _stop_observer(self) -> None:
        if self._pending_files.watcher is not None:
            self._pending_files.watcher.stop()
            self._pending_files.watcher = None

    def _replace_observer(self) -> None:
        if self._pending_files.watcher is not None:
            self._stop_observer()
            self._stats.observer_restarts += 1
            self._start_observer()
        self._scanner.request()

    def _fall_back_to_polling(self, reason: str) -> None:
        self._stop_observer()
        logger.warning("no events (%s): polling every %g s", reason, POLL_S, extra={"fields": {"reason": reason}})
        self._stats.mode = f"polling every {POLL_S:g} s, as there are no events: {reason}"
        self._scanner.set_interval(POLL_S)
