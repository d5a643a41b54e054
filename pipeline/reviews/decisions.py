"""What a person decides on photos, and the state that a photo then has."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from models.system.outside_text import is_sha256
from pipeline.errors import UsageError

LONGEST_LABEL = 200
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")


class ReviewKind(StrEnum):
    """What a person did: kept the label, named another, said that none can be told, or took the last of these back."""

    CONFIRM = "confirm"
    CHANGE = "change"
    UNKNOWN = "unknown"
    UNDO = "undo"


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decides on the photo `sha256`, whose label in the table is `old_label`.

    `new_label` is the label of a change, else None. `last_id` is the photo's last row that the person saw, 0 for none.
    """

    sha256: str
    kind: ReviewKind
    old_label: str | None = None
    new_label: str | None = None
    last_id: int = 0


@dataclass(frozen=True, slots=True)
class PhotoReview:
    """The state of a photo: its last row's number (0: none), and who said what and when, None where nothing stands.

    `reviewed_at_us` counts from 1970, UTC.
    """

    sha256: str
    last_id: int = 0
    kind: ReviewKind | None = None
    old_label: str | None = None
    label: str | None = None
    reviewer: str | None = None
    reviewed_at_us: int | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """The states after a request; with `conflicts`, the photos that have newer reviews, nothing was recorded."""

    states: tuple[PhotoReview, ...]
    conflicts: tuple[PhotoReview, ...] = ()


def is_label(text: str) -> bool:
    """Tell whether a person may give a photo this label: 1 to 200 printable characters, no space around them."""
    return 0 < len(text) <= LONGEST_LABEL and text.isprintable() and text == text.strip()


def refuse_impossible(request_id: str, reviewer: str, decisions: Sequence[Decision]) -> None:
    """Raise UsageError where a request cannot be one of a person, whatever was said before."""
    if _REQUEST_ID.fullmatch(request_id) is None:
        raise UsageError("a request is named by 8 to 64 letters, digits, dashes and underscores")
    if not is_label(reviewer):
        raise UsageError(f"a reviewer's name has 1 to {LONGEST_LABEL} printable characters")
    if not decisions or len({decision.sha256 for decision in decisions}) < len(decisions):
        raise UsageError("a request is about one photo or more, each once")
    for decision in decisions:
        if not is_sha256(decision.sha256):
            raise UsageError("a photo is named by its sha256")
        if decision.kind is ReviewKind.CONFIRM and decision.old_label is None:
            raise UsageError("a photo without a label cannot be confirmed")
        if (decision.kind is ReviewKind.CHANGE) != (decision.new_label is not None):
            raise UsageError("a change names a label, and nothing else does")
        if decision.new_label is not None and not is_label(decision.new_label):
            raise UsageError(f"a label has 1 to {LONGEST_LABEL} printable characters, and no space around them")
