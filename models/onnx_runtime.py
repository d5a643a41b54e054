"""onnxruntime with its telemetry switched off, and sessions for building and certifying models."""

from __future__ import annotations

import os
from pathlib import Path

# Recent wheels send usage data to Microsoft unless this is set before the import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

__all__ = ["onnxruntime", "open_session", "quiet_options"]
ERRORS_ONLY, FATAL_ONLY = 3, 4


def quiet_options(threads: int = 0, severity: int = ERRORS_ONLY) -> onnxruntime.SessionOptions:
    """Options of a session that logs nothing below `severity`. With 0 threads, onnxruntime chooses their number."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = severity
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def open_session(model: Path | bytes, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """A session on the CPU. Raises onnxruntime's own errors."""
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
