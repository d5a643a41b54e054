"""Text from outside (file names, table cells, model metadata), made safe for each place where it is written or used.

One function for each target: a part of a path, a terminal or log line, a CSV cell. HTML is escaped by the template.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TypeGuard

SHA256_PATTERN = "^[0-9a-f]{64}$"
_SHA256 = re.compile(SHA256_PATTERN)
_PATH_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_LONGEST_PATH_PART = 100
_HARMFUL_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# RE2 and Python read both alike, so that a column is guarded by Arrow and a single cell by `csv_text`.
FORMULA_PATTERN = r"^('*[=+\-@\t\r])"
GUARDED_FORMULA_PATTERN = r"^'('*[=+\-@\t\r])"
_FORMULA = re.compile(FORMULA_PATTERN)
_GUARDED_FORMULA = re.compile(GUARDED_FORMULA_PATTERN)


def is_sha256(text: str | None) -> TypeGuard[str]:
    """Tell whether `text` is a sha256 in lower-case hexadecimal, and so may be a part of a path."""
    return text is not None and _SHA256.fullmatch(text) is not None


def is_path_part(text: str) -> bool:
    """Tell whether `text` may be one component of a path below a folder of ours.

    Such a text has 1 to 100 ASCII letters, digits, dots, underscores and dashes, and begins with none of dot and dash:
    it neither leaves the folder, nor hides a file, nor reads as an option.
    """
    return len(text) <= _LONGEST_PATH_PART and _PATH_PART.fullmatch(text) is not None


def terminal_text(text: str) -> str:
    """Return `text` with control, format and surrogate characters escaped, fit for a terminal or a log line."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) if _is_harmful(character) else character for character in text)


def csv_text(text: str) -> str:
    """Return `text` as a CSV cell that no spreadsheet takes for a formula: `=1+1` becomes `'=1+1`."""
    return _FORMULA.sub(r"'\1", text)


def from_csv_text(cell: str) -> str:
    """Return the text that `csv_text` made `cell` of."""
    return _GUARDED_FORMULA.sub(r"\1", cell)


def _is_harmful(character: str) -> bool:
    return unicodedata.category(character) in _HARMFUL_CATEGORIES


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
