"""The marked figures of the manual: `<!-- n:NAME -->text<!-- /n -->`, and where their texts come from.

The texts are those of the result files. Two more stand for whole blocks: `peers-table`, the table that peers.py writes,
and `conditions`, which says of each part when, where and with which versions it was measured.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from results import read_result

ROOT = Path(__file__).parents[1]
DOCUMENTS = (ROOT / "README.md", *(ROOT / "docs" / name for name in ("performance.md", "install.md", "teaching.md")))
_MARKED = re.compile(r"(<!-- n:([\w-]+) -->)(.*?)(<!-- /n -->)", re.DOTALL)
_PEERS_TABLE = "peers-tf_efficientnet_lite0.md"


def marked_texts(document: str) -> dict[str, str]:
    """The marked texts of a document, by name."""
    return {match.group(2): match.group(3) for match in _MARKED.finditer(document)}


def filled(document: str, texts: dict[str, str]) -> str:
    """A document with each marked text replaced. Raises KeyError for a mark that no result has a text for."""
    return _MARKED.sub(lambda match: match.group(1) + texts[match.group(2)] + match.group(4), document)


def known_texts(folder: Path) -> dict[str, str]:
    """The texts of all result files in a folder, and of the two blocks."""
    found: dict[str, str] = {}
    results = [read_result(path) for path in sorted(folder.glob("*.json"))]
    measured = [result for result in results if "texts" in result]
    for result in measured:
        found.update(result["texts"])
    found["conditions"] = "\n" + _conditions(measured) + "\n"
    table = folder / _PEERS_TABLE
    if table.is_file():
        found["peers-table"] = "\n" + table.read_text().strip() + "\n"
    return found


def _conditions(results: list[dict[str, Any]]) -> str:
    """A line for each kind of date, CPU and versions, with the parts that were measured so."""
    parts: dict[str, list[str]] = {}
    for result in results:
        versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
        note = f" ({result['note']})" if result.get("note") else ""
        key = f"{result['date']}, {result['cpu']}, {result['cores']} cores{note}; {versions}"
        parts.setdefault(key, []).append(f"`{result['name']}`")
    return "\n".join(f"- {', '.join(names)}: {key}" for key, names in sorted(parts.items()))
