"""The one logging set-up of all doors: lines for people, or JSON lines for machines, always on stderr."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections.abc import Mapping

from pipeline.sources.file_names import printable

LOG_FORMATS = ("text", "json")
_ROOMS = ("jobs", "pipeline", "models")
_FIELDS = "fields"
_RESULTS = logging.getLogger("jobs.results")


def fields(**values: object) -> Mapping[str, object]:
    """Return the `extra` of a log call that gives a machine the facts of its sentence, under their own keys.

    `logger.info("labelled %s", name, extra=fields(photo=name, label=label))`; text shows the sentence alone.
    """
    return {_FIELDS: values}


def tell(sentence: str, **values: object) -> None:
    """Say what a command has done: its last line, said unless the door is quiet; a machine gets `values` with it."""
    _RESULTS.info("%s", sentence, extra=fields(**values))


def log_to_stderr(command: str, *, level: int = logging.WARNING, log_format: str = "text") -> None:
    """Send what the rooms log from `level` up to stderr, one safe line each; of other libraries, warnings and worse.

    Text lines read `command: sentence`, and news without trouble the sentence alone. A JSON line is an object with
    `time` (UTC), `level`, `command`, `room`, `message` and the `fields` of the call; a bug's stack trace is its
    `traceback`.
    """
    handler = _StderrHandler()
    handler.setFormatter(_JsonFormatter(command) if log_format == "json" else _TextFormatter(command))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))
    for room in _ROOMS:
        logging.getLogger(room).setLevel(level)
    _RESULTS.setLevel(level if level > logging.WARNING else logging.INFO)
    logging.captureWarnings(True)


class _StderrHandler(logging.Handler):
    """Writes to whatever stderr is at that moment; a reader that went away is no reason to fail."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            return


class _TextFormatter(logging.Formatter):
    def __init__(self, command: str) -> None:
        super().__init__()
        self._command = command

    def format(self, record: logging.LogRecord) -> str:
        opening = f"{self._command}: " if record.levelno >= logging.WARNING else ""
        return "\n".join([opening + printable(record.getMessage()), *_trace(record)])


class _JsonFormatter(logging.Formatter):
    def __init__(self, command: str) -> None:
        super().__init__()
        self._command = command

    def format(self, record: logging.LogRecord) -> str:
        seconds, milliseconds = int(record.created), int(record.msecs)
        line: dict[str, object] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{milliseconds:03d}Z",
            "level": record.levelname.lower(),
            "command": self._command,
            "room": record.name,
            "message": printable(record.getMessage()),
        }
        line.update({key: _escaped(value) for key, value in getattr(record, _FIELDS, {}).items()})
        if trace := _trace(record):
            line["traceback"] = "\n".join(trace)
        return json.dumps(line, default=str)


def _escaped(value: object) -> object:
    return printable(value) if isinstance(value, str) else value


def _trace(record: logging.LogRecord) -> list[str]:
    if not record.exc_info or record.exc_info[0] is None:
        return []
    return [printable(line) for line in "".join(traceback.format_exception(*record.exc_info)).splitlines()]
