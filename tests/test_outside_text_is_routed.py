"""Text from outside goes through `models/system/outside_text.py`: nothing goes round its functions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STREAMS = "jobs/cli/standard_streams.py"
# What must not be written, and the files that are the one place for it.
FORBIDDEN: tuple[tuple[str, set[str]], ...] = (
    (r"\bclick\.(echo|secho|style)\b", {STREAMS}),
    (r"(?<!\w)print\(", set()),
    (r"\bsys\.(stdout|stderr)\.(buffer|write)", {"jobs/cli/logging_setup.py"}),
    (r"\bunicodedata\.category\b", {"models/system/outside_text.py"}),
    # Jinja escapes what it renders; Markup says that something needs no escaping.
    (r"\bMarkup\(|\|\s*safe\b|autoescape=False", {"jobs/report/write.py", "jobs/workshop/teaching_page.py"}),
    (r"\.name\}(\.\w+)?\.tmp\b", {"models/system/atomic_file.py"}),
)


def lines_of_the_project() -> Iterator[tuple[str, int, str]]:
    """Yield path, number and text of each line of code and templates."""
    for room in ("models", "pipeline", "jobs"):
        for path in sorted([*(ROOT / room).rglob("*.py"), *(ROOT / room).rglob("*.jinja")]):
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
                yield str(path.relative_to(ROOT)), number, line


@pytest.mark.parametrize(("pattern", "allowed"), FORBIDDEN, ids=[pattern for pattern, _ in FORBIDDEN])
def test_nothing_goes_round_the_functions_for_outside_text(pattern: str, allowed: set[str]) -> None:
    found = [
        f"{path}:{number}: {line.strip()}"
        for path, number, line in lines_of_the_project()
        if path not in allowed and re.search(pattern, line)
    ]
    assert found == []


@pytest.mark.parametrize(
    "path",
    ["jobs/cli/logging_setup.py", STREAMS, "jobs/report/table_query.py", "jobs/labelling/results.py"],
)
def test_what_reaches_a_terminal_or_a_log_is_escaped(path: str) -> None:
    assert re.search(r"\bterminal_text[(,]", (ROOT / path).read_text(encoding="utf-8"))


def test_what_reaches_a_csv_table_is_guarded() -> None:
    assert "to_csv_cells(" in (ROOT / "pipeline/tables/writer.py").read_text(encoding="utf-8")
