"""onnxruntime, which is to tell nobody: recent wheels report to their maker unless this is set before the import."""

from __future__ import annotations

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

__all__ = ["onnxruntime"]
