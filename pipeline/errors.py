"""Exit codes and the exception tree; each exception knows the exit code the command ends with."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit status means; the numbers from 64 up follow sysexits.h."""

    OK = 0
    BUG = 1
    USAGE = 2
    SOME_FAILED = 3
    INPUT_MISSING = 66
    OUTPUT_UNWRITABLE = 74
    LOCKED = 75
    INTERRUPTED = 130
    TERMINATED = 143


class LabelDirError(Exception):
    """A run that cannot go on, with one sentence for the user and the exit code it ends with."""

    exit_code: ExitCode = ExitCode.BUG


class UsageError(LabelDirError):
    """What the user asked for cannot be meant."""

    exit_code = ExitCode.USAGE


class InputMissingError(LabelDirError):
    """The folder, file or model that was named is not there or cannot be read."""

    exit_code = ExitCode.INPUT_MISSING


class OutputError(LabelDirError):
    """The output cannot be written."""

    exit_code = ExitCode.OUTPUT_UNWRITABLE


class LockedError(LabelDirError):
    """Another run holds the lock on this output."""

    exit_code = ExitCode.LOCKED


class WorkerDiedError(LabelDirError):
    """A worker process ended by itself and the run cannot go on without it."""


class Interrupted(Exception):  # noqa: N818 - a request to stop, not an error
    """Stop now; `signal_number` says who asked."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"signal {signal_number}")
        self.signal_number = signal_number
