"""The loop of `watch-folder` without processes or waiting: a labeller in this process, a clock that tests move."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow.parquet as pq
import pytest

from pipeline.datasets.append_dataset import AppendDataset
from pipeline.monitoring.daemon_stats import DaemonStats
from pipeline.monitoring.sd_notify import SdNotify
from pipeline.monitoring.status_reporter import StatusReporter
from pipeline.records import FileRef, ItemError, Row
from pipeline.sources.read_file import ReadLimits, read_file
from pipeline.sources.walk import WalkRules
from pipeline.system.exclusive_rename import rename_without_replacing
from pipeline.tables.part_store import state_folder
from pipeline.watching import verified_photo
from pipeline.watching.control import LoopControl
from pipeline.watching.daemon import Daemon
from pipeline.watching.done_action import DoneAction
from pipeline.watching.event_supervisor import EventSupervisor, WatchIntervals
from pipeline.watching.labeller_supervisor import LabellerSupervisor, RunningLabeller
from pipeline.watching.pending_files import PendingFiles
from pipeline.watching.row_committer import RowCommitter
from pipeline.watching.scan_schedule import ScanSchedule
from pipeline.watching.scanner import Scanner
from pipeline.watching.settle_tracker import SettleTracker
from pipeline.watching.watched_folder import WatchedFolder, output_id

SETTLE_S, FLUSH_S, POLL_S = 2.0, 1.0, 5.0
# Of done actions without a daemon.
OWNER = "0123456789ab"


@dataclass
class Clock:
    """Seconds that pass only by `advance`, and a wall clock beside them that may jump."""

    now_s: float = 1000.0
    wall_us: int = 1_790_000_000_000_000

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
        self.wall_us += int(seconds * 1e6)


class MovableClock(Protocol):
    """A clock that a test moves, with a wall clock beside it."""

    wall_us: int

    def __call__(self) -> float: ...
    def advance(self, seconds: float) -> None: ...


@dataclass
class FakeLabeller:
    """Reads each file as the decoders do and labels the file with its first byte."""

    clock: MovableClock
    restarts: int = 0
    before_read: Callable[[FileRef], None] = lambda ref: None
    errors: dict[str, list[ItemError]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    def rows(self, refs: Iterator[FileRef], on_wait: Callable[[], None] = lambda: None) -> Iterator[Row]:
        for ref in refs:
            self.before_read(ref)
            self.seen.append(ref.name)
            errors = self.errors.get(ref.name)
            found = errors.pop() if errors else read_file(ref.path, ReadLimits())
            error = found if isinstance(found, ItemError) else None
            content = b"" if isinstance(found, ItemError) else found.content
            yield Row(
                file_name=ref.name,
                error=error,
                labels=() if error else (str(content[0]),),
                probabilities=() if error else (1.0,),
                width=None if error else 1,
                height=None if error else 1,
                size_bytes=ref.size_bytes if isinstance(found, ItemError) else len(content),
                mtime_us=ref.mtime_us if isinstance(found, ItemError) else found.mtime_us,
                sha256=None if error else hashlib.sha256(content).hexdigest(),
                model="fake@0",
                labelled_at_us=self.clock.wall_us,
            )

    def close(self) -> None:
        """There are no processes to end."""


class Watched:
    """A daemon over `folder`/inbox and `folder`/labels whose turns the test calls; `with` ends it."""

    def __init__(
        self,
        folder: Path,
        clock: MovableClock,
        done: str = "keep",
        rows_per_part: int = 5,
        settle_s: float = SETTLE_S,
        poll_s: float | None = POLL_S,
    ) -> None:
        self._is_killed = False
        self.clock = clock
        self.inbox = folder / "inbox"
        self.labels = folder / "labels"
        self.labels.mkdir(exist_ok=True)
        state_folder(self.labels).mkdir(exist_ok=True)
        self.stats = DaemonStats()
        self.control = LoopControl()
        self.labeller = FakeLabeller(clock)
        self.sink = AppendDataset(self.labels, "parquet", 1, rows_per_part)
        target = folder / "done" if done == "move" else None
        done_action = DoneAction(self.inbox, delete=done == "delete", target=target, owner=output_id(self.labels))
        inbox = WatchedFolder(self.inbox, WalkRules(), self.labels)
        intervals = WatchIntervals(settle_s, FLUSH_S, rescan_s=7 * 86400.0, poll_s=poll_s)
        self.schedule = ScanSchedule(intervals.scan_s, clock)
        self.row_committer = RowCommitter(self.sink, done_action, FLUSH_S, clock, self.stats, self.schedule.request)
        self.scanner = Scanner(inbox, self.schedule, clock, self.row_committer.put_back)
        tracker = SettleTracker(settle_s, clock)
        self.pending_files = PendingFiles(
            inbox, self.scanner, tracker, self.sink, self.stats, self.row_committer.finish_labelled
        )
        self.event_supervisor = EventSupervisor(inbox, self.schedule, intervals, self.stats, self.control.wake, clock)
        self.event_supervisor.mark_inbox()
        self.event_supervisor.start()
        self.labeller_supervisor = LabellerSupervisor[RunningLabeller](lambda: self.labeller, self.stats, clock)
        reporter = StatusReporter(self.stats, SdNotify(), [], None, clock)
        self.daemon = Daemon(
            self.event_supervisor,
            self.pending_files,
            self.row_committer,
            self.labeller_supervisor,
            self.stats,
            reporter,
            self.control,
            clock,
        )

    def run_for(self, seconds: float, step_s: float = 0.5) -> None:
        """Let `seconds` pass, with a turn of the loop every `step_s`."""
        for _ in range(round(seconds / step_s)):
            self.daemon.turn()
            self.clock.advance(step_s)
        self.daemon.turn()

    def drain(self) -> None:
        """Let enough time pass for every photo in the inbox to get its row."""
        self.run_for(POLL_S + SETTLE_S + FLUSH_S + 2.0)

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_killed:
            self.kill()

    def kill(self) -> None:
        """End the daemon as SIGKILL does: what is not on disk is lost."""
        self.control.close()
        self.sink.close()
        self._is_killed = True


Watch = Callable[..., Watched]


def rows_in(labels: Path) -> list[tuple[str, str | None]]:
    """Return name and content digest of every row below `labels`, sorted."""
    rows: list[Any] = []
    for path in labels.glob("date=*/part-*.parquet"):
        # Opened once: the daemon may replace a part that is not full at any moment.
        with pq.ParquetFile(path) as part:
            table = part.read(["file_name", "sha256"])
        rows += zip(table["file_name"].to_pylist(), table["sha256"].to_pylist(), strict=True)
    found: list[tuple[str, str | None]] = sorted(rows, key=lambda row: (row[0], row[1] or ""))
    return found


def put(folder: Path, name: str, content: bytes, mtime_s: int = 1_700_000_000) -> tuple[str, str]:
    """Write a photo into `folder`/inbox; returns the row that the photo must get."""
    path = folder / "inbox" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (mtime_s, mtime_s))
    return name, digest(content)


def digest(content: bytes) -> str:
    """Return the digest in the row of a photo with `content`."""
    return hashlib.sha256(content).hexdigest()


def refuse_renames_to(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `place` another file system for renames of photos."""

    def other_file_system(path: Path, target: Path) -> None:
        if place in target.parents and place not in path.parents:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename_without_replacing(path, target)

    monkeypatch.setattr(verified_photo, "rename_without_replacing", other_file_system)
