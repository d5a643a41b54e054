"""Watches the inbox: is it there, do events arrive, and what to do if they do not.

The supervisor owns the observer of file events. With `once` or `poll_s` there is never one. Otherwise:

- **events**: an observer runs, and `check` tests it. An observer whose thread died or whose heartbeat did not arrive
  is replaced, and a scan finds the files whose events were dropped.
- **polling**: the kernel refused watches, at the start, at a replacement, or silently (two scans entered more folders
  than the kernel watches). A frequent scan takes the place of the observer for good.

In every mode the inbox is present or absent. While it is absent nothing is listed and the observer is not tested;
when it comes back, possibly as another mount, an observer that was running is replaced and a scan is requested.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.monitoring.daemon_stats import DaemonStats
from pipeline.watching.file_events import FileEvents, Hints
from pipeline.watching.scan_schedule import ScanSchedule
from pipeline.watching.watched_folder import WatchedFolder

logger = logging.getLogger(__name__)

POLL_S = 5.0


@dataclass(frozen=True, slots=True)
class WatchIntervals:
    """How the inbox is watched: by events and a scan every `rescan_s`; with `poll_s`, by that scan alone.

    `once`: by one scan, and no more. `settle_s` is how long a new photo must stay unchanged, `flush_s` the shortest
    time from one commit of rows to the next.
    """

    settle_s: float
    flush_s: float
    rescan_s: float = 300.0
    poll_s: float | None = None
    once: bool = False

    @property
    def scan_s(self) -> float:
        """The time from one scan to the next."""
        return self.poll_s or self.rescan_s


class EventSupervisor:
    """Pauses while the inbox is absent, replaces a failed observer, and polls if the kernel gives no events."""

    def __init__(
        self,
        inbox: WatchedFolder,
        schedule: ScanSchedule,
        intervals: WatchIntervals,
        stats: DaemonStats,
        wake: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._inbox = inbox
        self._schedule = schedule
        self._intervals = intervals
        self._stats = stats
        self._wake = wake
        self._clock = clock
        self._observer: FileEvents | None = None
        self._has_too_few_watches = False
        self._scans_counted = 0
        self.is_inbox_absent = False

    def mark_inbox(self) -> None:
        """Put the marker into the inbox.

        Raises:
            InputMissingError: the inbox is no folder, or cannot be listed.
        """
        self._inbox.place_marker()

    def start(self) -> None:
        """Start to watch; with events, by threads."""
        if self._intervals.once:
            self._stats.mode = "one scan"
        elif self._intervals.poll_s is not None:
            self._stats.mode = f"polling every {self._intervals.poll_s:g} s"
        else:
            self._start_observer()

    def stop(self) -> None:
        """Stop the observer and remove the marker."""
        self._stop_observer()
        self._inbox.remove_marker()

    def pop_hints(self) -> Hints | None:
        """Return what has happened since the last call; None if there are no events in this mode."""
        return None if self._observer is None else self._observer.pop_hints()

    def check(self) -> None:
        """Test the inbox and the observer, and replace what failed; to be called about once a second."""
        reason = self._inbox.absence_reason()
        self._stats.set_problem("inbox", reason and f"paused: {reason}")
        if reason is None and self.is_inbox_absent:
            self._replace_observer()
        self.is_inbox_absent = reason is not None
        self._stats.set_problem("scan", None if self.is_inbox_absent else self._schedule.error)
        if not self.is_inbox_absent and self._observer is not None:
            self._check_observer(self._observer)

    def note_suspension(self) -> None:
        """Note that this process was suspended: the kernel may have dropped events, and the heartbeat is late."""
        self._schedule.request()
        if self._observer is not None:
            self._observer.reset_heartbeat()

    def _check_observer(self, observer: FileEvents) -> None:
        if reason := observer.failure_reason():
            logger.warning("the observer is replaced: %s", reason, extra={"fields": {"reason": reason}})
            self._replace_observer()
        elif self._schedule.completed > self._scans_counted:
            self._scans_counted = self._schedule.completed
            if observer.watch_count() >= self._schedule.folder_count:
                self._has_too_few_watches = False
            elif self._has_too_few_watches:
                self._fall_back_to_polling("the kernel allows no more watches, see fs.inotify.max_user_watches")
            else:
                # The missing watches may belong to folders that were made a moment ago: another scan tells.
                self._has_too_few_watches = True
                self._schedule.request()

    def _start_observer(self) -> None:
        try:
            observer = FileEvents(self._inbox, self._wake, self._clock)
            observer.start()
        except OSError as error:
            self._fall_back_to_polling(error.strerror or str(error))
            return
        self._observer = observer
        self._stats.mode = f"events and a scan every {self._intervals.rescan_s:g} s"

    def _stop_observer(self) -> None:
        if self._observer is not None:
            self._observer.stop()
            self._observer = None

    def _replace_observer(self) -> None:
        if self._observer is not None:
            self._stop_observer()
            self._stats.observer_restarts += 1
            self._start_observer()
        self._schedule.request()

    def _fall_back_to_polling(self, reason: str) -> None:
        self._stop_observer()
        logger.warning("no events (%s): polling every %g s", reason, POLL_S, extra={"fields": {"reason": reason}})
        self._stats.mode = f"polling every {POLL_S:g} s, as there are no events: {reason}"
        self._schedule.set_interval(POLL_S)
