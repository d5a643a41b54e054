"""Reports how the daemon is: to the service manager, the status files, the log and over HTTP."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from models.system.atomic_file import remove_stale_temporaries, replace_quickly
from models.system.process_state import start_ticks
from pipeline.monitoring.daemon_stats import DaemonStats
from pipeline.monitoring.prometheus import MetricsServer
from pipeline.monitoring.sd_notify import SdNotify

logger = logging.getLogger(__name__)

_STATUS_EVERY_S = 2.0
_LOG_EVERY_S = 60.0
_NEW_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class StatusReporter:
    """Reports `stats` once a second, in `status_files` every 2 s, and in the log once a minute if photos got rows.

    `server` answers requests from `ready` on.
    """

    def __init__(
        self,
        stats: DaemonStats,
        sd_notify: SdNotify,
        status_files: Sequence[Path],
        server: MetricsServer | None,
        clock: Callable[[], float],
    ) -> None:
        self._stats = stats
        self._sd_notify = sd_notify
        self._status_files = status_files
        self._server = server
        self._clock = clock
        self._next_status_s = 0.0
        self._next_log_s = clock() + _LOG_EVERY_S
        self._logged = (0, 0)
        for path in status_files:
            remove_stale_temporaries(path)

    def ready(self) -> None:
        """Report that the daemon watches and labels from now on."""
        if self._server is not None:
            self._server.start()
        self._sd_notify.send(READY=1, STATUS=self._stats.summary())
        facts = {"mode": self._stats.mode, "model": self._stats.model}
        logger.info("watching by %s, labelling with %s", self._stats.mode, self._stats.model, extra={"fields": facts})

    def reloading(self) -> None:
        """Report that the model is being reloaded."""
        self._sd_notify.send(STATUS="reloading the model")

    def tick(self) -> None:
        """Report that the daemon is alive, and its figures; to be called about once a second."""
        self._sd_notify.send(WATCHDOG=1, STATUS=self._stats.summary())
        now_s = self._clock()
        if now_s >= self._next_status_s:
            self._next_status_s = now_s + _STATUS_EVERY_S
            self._write_status("running")
        if now_s >= self._next_log_s:
            self._next_log_s = now_s + _LOG_EVERY_S
            self._log()

    def stopping(self) -> None:
        """Report that the daemon commits its last rows."""
        self._sd_notify.send(STOPPING=1)

    def stopped(self) -> None:
        """Write the last figures, which stay in the status files."""
        self._write_status("stopped")
        self._log()

    def _log(self) -> None:
        figures = (self._stats.labelled, self._stats.failed.total())
        if figures != self._logged:
            self._logged = figures
            logger.info("%s", self._stats.summary(), extra={"fields": self._stats.snapshot()})

    def _write_status(self, state: str) -> None:
        pid = os.getpid()
        facts = {"state": state, "pid": pid, "start_ticks": start_ticks(pid), "written_at": time.time()}
        document = json.dumps({**facts, **self._stats.snapshot()}, indent=1) + "\n"
        for path in self._status_files:
            with contextlib.suppress(OSError):
                replace_quickly(path, document.encode())
