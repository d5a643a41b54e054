"""What can go wrong with a model, as exceptions that know the exit code a command ends with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


class ModelError(Exception):
    """A model that cannot be listed, built, read or run, with one sentence for the user; by itself a bug."""

    exit_code: int = 1


class ModelUsageError(ModelError):
    """What the user asked for cannot be meant: an unknown name, labels that do not fit, a setting out of range."""

    exit_code = 2


class ModelInputError(ModelError):
    """A weights file, an artifact or a folder of photos is missing, damaged or not what it is said to be."""

    exit_code = 66


class ModelOutputError(ModelError):
    """An artifact, a table or a chart cannot be written."""

    exit_code = 74


@contextlib.contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Run a block that writes `path`; an OSError in the block becomes a ModelOutputError."""
    try:
        yield
    except OSError as error:
        raise ModelOutputError(f"cannot write {path}: {error.strerror or error}") from error
