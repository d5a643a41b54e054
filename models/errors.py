"""Exit codes, and the root of the one exception tree: each exception knows the exit code that a command ends with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """What a command's exit status means; the numbers from 64 up follow sysexits.h."""

    OK = 0
    BUG = 1
    USAGE = 2
    SOME_FAILED = 3
    INPUT_MISSING = 66
    PHOTOS_GONE = 69
    OUTPUT_UNWRITABLE = 74
    LOCKED = 75
    INTERRUPTED = 130
    TERMINATED = 143


class LabelDirError(Exception):
    """A command cannot go on; the text is one sentence for the user. By itself the error is a bug."""

    exit_code: ExitCode = ExitCode.BUG


class UsageError(LabelDirError):
    """A request that cannot be carried out as given: an unknown name, a setting out of range, a wrong file ending."""

    exit_code = ExitCode.USAGE


class InputMissingError(LabelDirError):
    """A named folder, file or model is missing, damaged, or cannot be read."""

    exit_code = ExitCode.INPUT_MISSING


class OutputError(LabelDirError):
    """An output file or folder cannot be written."""

    exit_code = ExitCode.OUTPUT_UNWRITABLE


class StoppedError(LabelDirError):
    """A person or the system stopped the command before there was anything to keep."""

    exit_code = ExitCode.INTERRUPTED


class ModelError(LabelDirError):
    """A model cannot be built or run, for a reason that lies in this program."""


class WorkerEndedError(ModelError):
    """A process that worked on a model ended before its work was done: killed, out of memory, or crashed."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message; the name of its class where the error has no message."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


@contextlib.contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Run a block that writes `path`; an OSError in the block becomes an OutputError."""
    try:
        yield
    except OSError as error:
        # Messages of libraries may have several lines.
        reason = next(iter(str(error.strerror or error).splitlines()), "")
        raise OutputError(f"{path} cannot be written: {reason}") from error
