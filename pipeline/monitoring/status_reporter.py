"""Tells those who ask how the daemon is: the service manager, the status file, the log."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.monitoring.daemon_stats import DaemonStats
from pipeline.monitoring.prometheus import MetricsServer
from pipeline.monitoring.sd_notify import SdNotify

logger = logging.getLogger(__name__)

_STATUS_EVERY_S = 2.0
_LOG_EVERY_S = 60.0


class StatusReporter:
    """Called about once a second; writes `status_files` and one log line a minute in which something happened.

    From `ready` on, `server` answers those who ask by the network.
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

    def ready(self) -> None:
        """Say that the daemon watches and labels from now on."""
        if self._server is not None:
            self._server.start()
        self._sd_notify.tell(READY=1, STATUS=self._stats.sentence())
        facts = {"mode": self._stats.mode, "model": self._stats.model}
        logger.info("watching by %s, labelling with %s", self._stats.mode, self._stats.model, extra={"fields": facts})

    def reloading(self) -> None:
        """Say that the model is being loaded anew."""
        self._sd_notify.tell(STATUS="loading the model anew")

    def tick(self) -> None:
        """Say that the daemon is alive, and how."""
        self._sd_notify.tell(WATCHDOG=1, STATUS=self._stats.sentence())
        now_s = self._clock()
        if now_s >= self._next_status_s:
            self._next_status_s = now_s + _STATUS_EVERY_S
            self._write_status("running")
        if now_s >= self._next_log_s:
            self._next_log_s = now_s + _LOG_EVERY_S
            self._log()

    def stopping(self) -> None:
        """Say that the daemon finishes what it has begun."""
        self._sd_notify.tell(STOPPING=1)

    def stopped(self) -> None:
        """Leave the last figures for who asks later."""
        self._write_status("stopped")
        self._log()

    def _log(self) -> None:
        figures = (self._stats.labelled, self._stats.failed.total())
        if figures != self._logged:
            self._logged = figures
            logger.info("%s", self._stats.sentence(), extra={"fields": self._stats.snapshot()})

    def _write_status(self, state: str) -> None:
        document = json.dumps({"state": state, "pid": os.getpid(), **self._stats.snapshot()}, indent=1) + "\n"
        for path in self._status_files:
            temporary = path.with_name(f".{path.name}.tmp")
            # No fsync: it is of now, and of no use after a power cut.
            with contextlib.suppress(OSError):
                temporary.write_text(document, encoding="utf-8")
                temporary.replace(path)
