"""Tells those who ask how the daemon is: the service manager, the status file, the log."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.monitoring.daemon_stats import Vitals
from pipeline.monitoring.prometheus import MetricsServer
from pipeline.monitoring.sd_notify import ServiceManager

logger = logging.getLogger(__name__)

_STATUS_EVERY_S = 2.0
_LOG_EVERY_S = 60.0


class Reporter:
    """Called about once a second; writes `status_files` and one log line a minute in which something happened.

    From `ready` on, `server` answers those who ask by the network.
    """

    def __init__(
        self,
        vitals: Vitals,
        service_manager: ServiceManager,
        status_files: Sequence[Path],
        server: MetricsServer | None,
        clock: Callable[[], float],
    ) -> None:
        self._vitals = vitals
        self._service_manager = service_manager
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
        self._service_manager.tell(READY=1, STATUS=self._vitals.sentence())
        facts = {"mode": self._vitals.mode, "model": self._vitals.model}
        logger.info("watching by %s, labelling with %s", self._vitals.mode, self._vitals.model, extra={"fields": facts})

    def reloading(self) -> None:
        """Say that the model is being loaded anew."""
        self._service_manager.tell(STATUS="loading the model anew")

    def tick(self) -> None:
        """Say that the daemon is alive, and how."""
        self._service_manager.tell(WATCHDOG=1, STATUS=self._vitals.sentence())
        now_s = self._clock()
        if now_s >= self._next_status_s:
            self._next_status_s = now_s + _STATUS_EVERY_S
            self._write_status("running")
        if now_s >= self._next_log_s:
            self._next_log_s = now_s + _LOG_EVERY_S
            self._log()

    def stopping(self) -> None:
        """Say that the daemon finishes what it has begun."""
        self._service_manager.tell(STOPPING=1)

    def stopped(self) -> None:
        """Leave the last figures for who asks later."""
        self._write_status("stopped")
        self._log()

    def _log(self) -> None:
        figures = (self._vitals.labelled, self._vitals.failed.total())
        if figures != self._logged:
            self._logged = figures
            logger.info("%s", self._vitals.sentence(), extra={"fields": self._vitals.snapshot()})

    def _write_status(self, state: str) -> None:
        document = json.dumps({"state": state, "pid": os.getpid(), **self._vitals.snapshot()}, indent=1) + "\n"
        for path in self._status_files:
            temporary = path.with_name(f".{path.name}.tmp")
            # No fsync: it is of now, and of no use after a power cut.
            with contextlib.suppress(OSError):
                temporary.write_text(document, encoding="utf-8")
                temporary.replace(path)
