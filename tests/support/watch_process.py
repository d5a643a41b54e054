"""A real `watch-folder` in a real process, with its rows, status and log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from jobs.watching.labels_state import STATUS_NAME
from models.artifact import Artifact
from pipeline.tables.part_store import state_folder
from tests.conftest import command_path
from tests.support.tiny_model import COLOURS
from tests.support.waiting import PATIENCE_S, wait_until
from tests.support.watch_kit import rows_in


def photo(number: int) -> bytes:
    """Return a small photo that differs from that of any other number."""
    picture = Image.new("RGB", (36, 34), list(COLOURS.values())[number % len(COLOURS)])
    picture.putpixel((0, 0), (number & 255, number >> 8 & 255, number >> 16 & 255))
    stream = BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


class WatchFolder:
    """`watch-folder inbox/ labels/` below `folder`, with the tiny model unless `options` say otherwise."""

    def __init__(self, folder: Path, model: Artifact, *options: str, env: dict[str, str] | None = None) -> None:
        self.inbox = folder / "inbox"
        self.labels = folder / "labels"
        self.log = folder / "log.txt"
        self.inbox.mkdir(exist_ok=True)
        self._command = [command_path("watch-folder"), str(self.inbox), str(self.labels), "-m", str(model.path)]
        self._command += ["--pool", "1", "-j", "1", *options]
        self._environment = {**os.environ, **(env or {})}
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self._starts = self.logged().count("watching by") + 1
        with self.log.open("ab") as log:
            return subprocess.Popen(self._command, stderr=log, env=self._environment)

    def start_again(self) -> None:
        """Start the same command again after its process ended."""
        self.process = self._start()

    def wait_until_ready(self) -> None:
        """Return when the last started process watches and labels."""
        wait_until(self._is_ready, "the start")

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.logged()
        return self.logged().count("watching by") == self._starts

    def logged(self) -> str:
        """Return what all processes so far have written to stderr."""
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""

    def status(self) -> dict[str, Any]:
        """Return the figures of the status file that `watch-folder status` reads."""
        path = state_folder(self.labels) / STATUS_NAME
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def rows(self) -> list[tuple[str, str | None]]:
        """Return name and digest of every row in the labels at this instant."""
        return rows_in(self.labels)

    def rows_of(self, prefix: str) -> list[tuple[str, str | None]]:
        """Return the rows whose names begin with `prefix`."""
        return [row for row in self.rows() if row[0].startswith(prefix)]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the process a signal to end, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=PATIENCE_S)

    def __enter__(self) -> WatchFolder:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()

    def kill(self) -> None:
        """Kill the process as the out-of-memory killer does."""
        self.process.kill()
        self.process.wait()
