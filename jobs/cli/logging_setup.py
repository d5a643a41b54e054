"""The logging of all commands: text lines for people or JSON lines for machines, always on stderr."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections.abc import Mapping

from models.system.outside_text import terminal_text

_PACKAGES = ("jobs", "pipeline", "models")
_FIELDS = "fields"
_RESULTS = logging.getLogger("jobs.results")


def fields(**values: object) -> Mapping[str, object]:
    """Return the `extra` of a log call that adds the sentence's values to a JSON line, each under its own key.

    `logger.info("labelled %s", name, extra=fields(photo=name, label=label))`; a text line shows the sentence alone.
    """
    return {_FIELDS: values}


def log_result(sentence: str, **values: object) -> None:
    """Log what a command has done: its last line, hidden by `--quiet`; a JSON line also has `values`."""
    _RESULTS.info("%s", sentence, extra=fields(**values))


def log_to_stderr(command: str, *, level: int = logging.WARNING, log_format: str = "text") -> None:
    """Write the log of this project from `level` up to stderr, one safe line each, and warnings of other libraries.

    Warnings and errors read `command: sentence`, other text lines the sentence alone. A JSON line is an object with
    `time` (UTC), `level`, `command`, `room`, `message` and the `fields` of the call; `traceback` is a bug's
    stack trace.
    """
    handler = _StderrHandler()
    handler.setFormatter(_JsonFormatter(command) if log_format == "json" else _TextFormatter(command))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))
    for package in _PACKAGES:
        logging.getLogger(package).setLevel(level)
    _RESULTS.setLevel(level if level > logging.WARNING else logging.INFO)
    logging.captureWarnings(True)


class _StderrHandler(logging.Handler):
    """Writes to the current `sys.stderr`; a closed stderr must not end the command."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            return


class _Formatter(logging.Formatter):
    def __init__(self, command: str) -> None:
        super().__init__()
        self._command = command


class _TextFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        opening = f"{self._command}: " if record.levelno >= logging.WARNING else ""
        return "\n".join([opening + terminal_text(record.getMessage()), *_trace(record)])


class _JsonFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        seconds, milliseconds = int(record.created), int(record.msecs)
        line: dict[str, object] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{milliseconds:03d}Z",
            "level": record.levelname.lower(),
            "command": self._command,
            "room": record.name,
            "message": terminal_text(record.getMessage()),
        }
        line.update({key: _escaped(value) for key, value in getattr(record, _FIELDS, {}).items()})
        if trace := _trace(record):
            line["traceback"] = "\n".join(trace)
        return json.dumps(line, default=str)


def _escaped(value: object) -> object:
    return terminal_text(value) if isinstance(value, str) else value


def _trace(record: logging.LogRecord) -> list[str]:
    if not record.exc_info or record.exc_info[0] is None:
        return []
    return [terminal_text(line) for line in "".join(traceback.format_exception(*record.exc_info)).splitlines()]
