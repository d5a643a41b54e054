"""Everything after the labeller: rows made durable in time, again and again where the disk refuses, then the photos."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from pipeline.monitoring.daemon_stats import DaemonStats
from pipeline.records import Row
from pipeline.tables.append_dataset import AppendDataset
from pipeline.tables.row_index import Entry, entry_of
from pipeline.watching.done_action import DoneAction

logger = logging.getLogger(__name__)

# Beyond these, and while the disk refuses them, no more photos are opened: they are safe where they lie.
_ROWS_IN_MEMORY = 8192
_BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0)
_FAILURES_LOGGED_A_MINUTE = 20


class RowCommitter:
    """Hands rows to the sink, commits at most once a `flush_s`, and disposes of photos whose rows are durable."""

    def __init__(
        self,
        sink: AppendDataset,
        done_action: DoneAction,
        flush_s: float,
        clock: Callable[[], float],
        stats: DaemonStats,
    ) -> None:
        self._sink = sink
        self._done_action = done_action
        self._flush_s = flush_s
        self._clock = clock
        self._stats = stats
        self._noticed_s: dict[tuple[str, str | None], float] = {}
        self._to_dispose: list[Entry] = []
        self._oldest_s: float | None = None
        self._last_flush_s = clock() - flush_s
        self._not_before_s = 0.0
        self._logged: list[float] = []
        self.refusals = 0

    @property
    def is_blocked(self) -> bool:
        """Whether no more rows should be made, because those made cannot be written."""
        return self.refusals > 0 and self._sink.pending >= _ROWS_IN_MEMORY

    @property
    def rows_not_durable(self) -> int:
        """How many rows wait to be committed."""
        return self._sink.pending

    @property
    def is_empty(self) -> bool:
        """Whether every row taken is durable."""
        return self._oldest_s is None

    def take(self, row: Row, noticed_s: float) -> None:
        """Take a row of a file whose last change was noticed at `noticed_s`.

        Raises:
            OSError: the index cannot be read.
        """
        if self._oldest_s is None:
            self._oldest_s = self._clock()
        if self._sink.add(row):
            self._noticed_s[row.file_name, row.sha256] = noticed_s
            self._log_failure(row)
        else:
            self._stats.unchanged += 1
            self._to_dispose.append(entry_of(row))

    def due_s(self, is_pause: bool) -> float | None:
        """Return when to commit, by the clock, None where there is nothing to; sooner in a pause of the rows."""
        if self._oldest_s is None:
            return None
        due_s = self._last_flush_s + self._flush_s if is_pause else self._oldest_s + self._flush_s
        return max(due_s, self._not_before_s)

    def flush_if_due(self, is_pause: bool) -> None:
        """Commit when it is time; a disk that refuses is asked again, ever more seldom."""
        due_s = self.due_s(is_pause)
        if due_s is None or self._clock() < due_s:
            return
        try:
            self.flush()
        except OSError as error:
            self._not_before_s = self._clock() + _BACKOFF_S[min(self.refusals, len(_BACKOFF_S) - 1)]
            self.refusals += 1
            self._stats.trouble("output", f"rows cannot be written ({error.strerror or error}); photos are kept")

    def flush(self) -> None:
        """Commit now.

        Raises:
            OSError: the rows cannot be written; they stay.
        """
        committed = self._sink.commit()
        now_s = self._clock()
        self._oldest_s, self._last_flush_s, self.refusals, self._not_before_s = None, now_s, 0, 0.0
        self._stats.trouble("output", None)
        for row in committed:
            self._count(row, now_s)
            self.dispose(entry_of(row))
        for entry in self._to_dispose:
            self.dispose(entry)
        self._to_dispose = []
        if committed:
            self._stats.last_success_at = time.time()

    def known(self, entry: Entry) -> None:
        """Hear of a photo that lies in the inbox and has its row: an earlier process may not have got to it."""
        if not self._done_action.keeps and self._sink.is_durable(entry):
            self.dispose(entry)

    def dispose(self, entry: Entry) -> None:
        """Do with a photo what is to be done once its row is durable; a failure is told, and tried at the next scan."""
        try:
            if self._done_action.dispose(entry):
                self._stats.trouble("done", None)
        except OSError as error:
            self._stats.trouble("done", f"photos cannot be moved away ({error.strerror or error})")

    def _count(self, row: Row, now_s: float) -> None:
        noticed_s = self._noticed_s.pop((row.file_name, row.sha256), now_s)
        self._stats.lag.add(now_s - noticed_s)
        if row.error is None:
            self._stats.labelled += 1
        else:
            self._stats.failed[row.error.error_class] += 1

    def _log_failure(self, row: Row) -> None:
        if row.error is None:
            return
        now_s = self._clock()
        self._logged = [logged_s for logged_s in self._logged if now_s - logged_s < 60.0]
        if len(self._logged) < _FAILURES_LOGGED_A_MINUTE:
            self._logged.append(now_s)
            facts = {"photo": row.file_name, "error": str(row.error)}
            logger.warning("%s cannot be labelled: %s", row.file_name, row.error, extra={"fields": facts})
