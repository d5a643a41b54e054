"""Label lists in text files, one label a line."""

from __future__ import annotations

from pathlib import Path

from models.errors import InputMissingError, UsageError


def read_labels(path: Path) -> tuple[str, ...]:
    """The labels of a text file, in the order of the classes. Raises InputMissingError or UsageError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InputMissingError(f"the labels {path} are no text in UTF-8") from error
    except OSError as error:
        raise InputMissingError(f"cannot read the labels {path}: {error.strerror}") from error
    labels = tuple(line.strip() for line in lines)
    if not labels or "" in labels:
        raise UsageError(f"the labels {path} have an empty line; there is one label a line")
    seen: dict[str, int] = {}
    for number, label in enumerate(labels, 1):
        if label in seen:
            raise UsageError(f"the labels {path} have {label!r} twice, on lines {seen[label]} and {number}")
        seen[label] = number
    return labels
