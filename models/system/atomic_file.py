"""Files that are whole or not there: written under another name, flushed to the disk, renamed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from models.errors import ModelOutputError


def write_durably(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step; the folder is made if needed. Raises ModelOutputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise ModelOutputError(f"cannot write {path}: {error.strerror}") from error
