"""Text files of labels, one label a line."""

from __future__ import annotations

from pathlib import Path

from models.errors import InputMissingError, UsageError


def read_labels(path: Path) -> tuple[str, ...]:
    """The labels of a text file, in the order of the classes. Raises InputMissingError for a file that cannot be read,
    UsageError for an empty line or a repeated label."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputMissingError(f"the labels {path} are no text in UTF-8") from error
    except OSError as error:
        raise InputMissingError(f"cannot read the labels {path}: {error.strerror}") from error
    labels = tuple(line.strip() for line in lines)
    if not labels or "" in labels:
        raise UsageError(f"the labels {path} have an empty line; there is one label a line")
    first_line: dict[str, int] = {}
    for line, label in enumerate(labels, 1):
        if first_line.setdefault(label, line) != line:
            raise UsageError(f"the labels {path} have {label!r} twice, on lines {first_line[label]} and {line}")
    return labels
