"""onnxruntime with its telemetry switched off, and sessions for building and certifying models."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from models.errors import InputMissingError

# Recent wheels send usage data to Microsoft unless this is set before the import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as raised

__all__ = ["model_file_errors", "onnxruntime", "open_session", "quiet_options"]
# What onnxruntime raises for files that are no models, or not of the form that this program asks for.
_FAULTS_OF_FILES = (
    *(raised.Fail, raised.InvalidArgument, raised.InvalidGraph, raised.InvalidProtobuf),
    *(raised.NoModel, raised.NoSuchFile, raised.NotImplemented, ValueError),
)
ERRORS_ONLY, FATAL_ONLY = 3, 4


def quiet_options(threads: int = 0, severity: int = ERRORS_ONLY) -> onnxruntime.SessionOptions:
    """Options of a session that logs nothing below `severity`. With 0 threads, onnxruntime chooses their number."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = severity
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def open_session(model: Path | bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """A session on the CPU. Raises onnxruntime's own errors, and OSError for a path that it cannot take and that cannot
    be read."""
    if isinstance(model, Path) and not _is_utf8(model):
        model = model.read_bytes()
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _is_utf8(path: Path) -> bool:
    try:
        os.fsencode(path).decode()
    except UnicodeDecodeError:
        return False
    return True


@contextlib.contextmanager
def model_file_errors(path: Path) -> Iterator[None]:
    """Run a block that loads or runs the model `path`; what is wrong with the file becomes an InputMissingError."""
    try:
        yield
    except _FAULTS_OF_FILES as error:
        raise InputMissingError(f"{path} is damaged: onnxruntime says {' '.join(str(error).split())}") from error
