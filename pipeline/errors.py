"""The exceptions of a run: the models' and those that only a run raises, so that commands import all from here."""

from __future__ import annotations

from models.errors import ExitCode, InputMissingError, LabelDirError, ModelError, OutputError, UsageError, output_errors

__all__ = [
    "AnotherFolderError",
    "ExitCode",
    "InputMissingError",
    "Interrupted",
    "LabelDirError",
    "LockedError",
    "ModelError",
    "ModelNotLoadedError",
    "OutputError",
    "PersonDecidesError",
    "PhotosGoneError",
    "UsageError",
    "WorkerDiedError",
    "output_errors",
]


class PersonDecidesError(LabelDirError):
    """A table was left as it was until a person decides: `fact` is what was found, `advice` how to go on."""

    def __init__(self, fact: str, advice: str) -> None:
        super().__init__(f"{fact}; {advice}")
        self.fact = fact
        self.advice = advice


class PhotosGoneError(PersonDecidesError):
    """So many photos of the last table are gone that their folder is more likely away."""

    exit_code = ExitCode.PHOTOS_GONE


class AnotherFolderError(PersonDecidesError, UsageError):
    """The table holds the labels of another folder of photos."""

    exit_code = ExitCode.USAGE


class LockedError(LabelDirError):
    """Another run holds the lock on this output."""

    exit_code = ExitCode.LOCKED


class WorkerDiedError(LabelDirError):
    """A worker process died and the run cannot go on without this worker."""


class ModelNotLoadedError(WorkerDiedError):
    """The workers run, and the file of the model is damaged or missing."""

    exit_code = ExitCode.INPUT_MISSING


class Interrupted(Exception):  # noqa: N818 - a request to stop, not an error
    """The run has to stop now, because the process received `signal_number`."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"signal {signal_number}")
        self.signal_number = signal_number
