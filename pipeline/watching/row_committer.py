"""Everything after the labeller: commits rows in time, retries if the disk refuses, then moves photos away."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.datasets.append_dataset import AppendDataset
from pipeline.datasets.row_index import Entry, entry_of
from pipeline.errors import LabelDirError
from pipeline.monitoring.daemon_stats import DaemonStats
from pipeline.records import FileRef, Row
from pipeline.watching.done_action import DoneAction, Outcome

logger = logging.getLogger(__name__)

# While the disk refuses rows, no more photos than these are opened: photos are safe in the inbox, rows in memory not.
_LARGEST_ROWS_IN_MEMORY = 8192
_BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
_FAILURES_LOGGED_A_MINUTE = 20
_MOST_NAMES_LEFT_BEHIND = 10_000


class RowCommitter:
    """Adds rows to the sink, commits at most once per `flush_s`, and applies the action to photos with a durable row.

    `failed_commits` counts the failures since the last commit that succeeded.
    """

    def __init__(
        self,
        sink: AppendDataset,
        done_action: DoneAction,
        flush_s: float,
        clock: Callable[[], float],
        stats: DaemonStats,
        request_scan: Callable[[], None],
    ) -> None:
        self._sink = sink
        self._done_action = done_action
        self._flush_s = flush_s
        self._clock = clock
        self._stats = stats
        self._request_scan = request_scan
        # Names of photos that could not be moved away.
        self._left_behind: set[str] = set()
        self._noticed_s: dict[tuple[str, str | None], float] = {}
        self._unchanged: list[Entry] = []
        self._oldest_s: float | None = None
        self._last_flush_s = clock() - flush_s
        self._retry_at_s = 0.0
        self._failures_logged_s: list[float] = []
        self.failed_commits = 0

    @property
    def is_blocked(self) -> bool:
        """Whether no more rows should be made, because the disk refuses those in memory."""
        return self.failed_commits > 0 and self._sink.pending >= _LARGEST_ROWS_IN_MEMORY

    @property
    def rows_not_durable(self) -> int:
        """How many rows wait to be committed."""
        return self._sink.pending

    @property
    def is_empty(self) -> bool:
        """Whether every added row is durable."""
        return self._oldest_s is None

    def add(self, row: Row, ref: FileRef, noticed_s: float) -> None:
        """Add the row of the file `ref`, whose last change was noticed at `noticed_s`.

        Raises:
            OSError: the index cannot be read.
        """
        if self._oldest_s is None:
            self._oldest_s = self._clock()
        entry = entry_of(row, ref)
        if self._sink.add(row, entry):
            self._noticed_s[row.file_name, row.sha256] = noticed_s
            self._log_failure(row)
        else:
            self._stats.unchanged += 1
            self._unchanged.append(entry)

    def due_s(self, is_pause: bool) -> float:
        """Return the time of the next commit, infinity if there is nothing to commit; sooner in a pause of the rows."""
        if self._oldest_s is None:
            return math.inf
        due_s = self._last_flush_s + self._flush_s if is_pause else self._oldest_s + self._flush_s
        return max(due_s, self._retry_at_s)

    def flush_if_due(self, is_pause: bool) -> None:
        """Commit if it is time; while the disk refuses, the pauses between two attempts grow."""
        if self._clock() < self.due_s(is_pause):
            return
        try:
            self.flush()
        except (OSError, LabelDirError) as error:
            self._retry_at_s = self._clock() + _BACKOFF_S[min(self.failed_commits, len(_BACKOFF_S) - 1)]
            self.failed_commits += 1
            reason = getattr(error, "strerror", None) or error
            self._stats.set_problem("output", f"rows cannot be written ({reason}); photos are kept")

    def flush(self) -> None:
        """Commit now.

        Raises:
            OSError: the rows cannot be written; they stay.
        """
        committed = self._sink.commit()
        now_s = self._clock()
        self._oldest_s, self._last_flush_s, self.failed_commits, self._retry_at_s = None, now_s, 0, 0.0
        self._stats.set_problem("output", None)
        for row, _ in committed:
            self._count(row, now_s)
        unchanged, self._unchanged = self._unchanged, []
        for entry in [*(entry for _, entry in committed), *unchanged]:
            self.apply_done_action(entry)
        if committed:
            self._stats.last_success_at = time.time()

    def finish_labelled(self, entry: Entry) -> None:
        """Apply the action to a photo in the inbox with a durable row: an earlier process may have ended before it."""
        if not self._done_action.keeps and self._sink.is_durable(entry):
            self.apply_done_action(entry)

    def apply_done_action(self, entry: Entry) -> None:
        """Move or delete the photo of a durable row; a failure is reported, and retried after the next scan.

        A photo that only looks like that of the row is listed again, and gets a row of its own.
        """
        try:
            if self._done_action.apply(entry) is Outcome.OTHER_PHOTO:
                self._sink.distrust(entry)
                self._request_scan()
            self._left_behind.discard(entry.name)
        except OSError as error:
            if len(self._left_behind) < _MOST_NAMES_LEFT_BEHIND:
                self._left_behind.add(entry.name)
            self._stats.set_problem("done", f"photos cannot be moved away ({error.strerror or error})")
        if not self._left_behind:
            self._stats.set_problem("done", None)

    def put_back(self, path: str) -> None:
        """Give the photo at the hidden `path` its name again where a done action of this output was interrupted."""
        try:
            is_claim = self._done_action.put_back(Path(path))
        except OSError as error:
            self._stats.set_problem("done", f"{path} cannot have its name again ({error.strerror or error})")
            return
        if is_claim:
            logger.info("%s has its name again: it was to be moved or deleted when a process was killed", path)
            self._request_scan()

    def _count(self, row: Row, now_s: float) -> None:
        noticed_s = self._noticed_s.pop((row.file_name, row.sha256), now_s)
        self._stats.lag.add(now_s - noticed_s)
        if row.error is None:
            self._stats.unsure += row.is_unsure
            self._stats.labelled += 1
        else:
            self._stats.failed[row.error.error_class] += 1

    def _log_failure(self, row: Row) -> None:
        if row.error is None:
            return
        now_s = self._clock()
        self._failures_logged_s = [logged_s for logged_s in self._failures_logged_s if now_s - logged_s < 60.0]
        if len(self._failures_logged_s) < _FAILURES_LOGGED_A_MINUTE:
            self._failures_logged_s.append(now_s)
            facts = {"photo": row.file_name, "error": str(row.error)}
            logger.warning("%s cannot be labelled: %s", row.file_name, row.error, extra={"fields": facts})
