"""The fault table: what was done to runs, how often, and what was lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.faults.live_run import SLOWEST_END_S
from tests.faults.stub_run import StubRuns

TRIED: Counter[str] = Counter()


@pytest.fixture(scope="session")
def tried() -> Counter[str]:
    """Count here, by fault, every run that was disturbed and then stood the comparison."""
    return TRIED


@pytest.fixture(scope="module")
def stub_runs() -> Iterator[StubRuns]:
    """Runs with a stub in place of the model, some milliseconds each."""
    with StubRuns() as runs:
        yield runs


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table; a run that loses a row or has a wrong one fails its test, so what stands here lost none."""
    if not TRIED:
        return
    failed = len(terminalreporter.stats.get("failed", []))
    terminalreporter.section("faults")
    terminalreporter.write_line(f"{'fault':<64}{'times tried':>12}{'rows lost':>11}{'rows wrong':>12}")
    for fault, times in TRIED.items():
        terminalreporter.write_line(f"{fault:<64}{times:>12}{0:>11}{0:>12}")
    if SLOWEST_END_S[0]:
        terminalreporter.write_line(f"processes and shared memory gone after {SLOWEST_END_S[0]:.2f} s at most")
    if failed:
        terminalreporter.write_line(f"and {failed} failed: see above")
