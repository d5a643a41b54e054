"""Shared by fault tests: a count of the faults, and runs with a stub in place of the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from tests.faults.live_run import SLOWEST_END_S
from tests.faults.stub_run import StubRuns
from tests.faults.table import SLOWEST_END, TRIED


@pytest.fixture
def tried(record_property: Callable[[str, object], None]) -> Iterator[Counter[str]]:
    """Count here, by fault, every run that was disturbed and then stood the comparison."""
    counts: Counter[str] = Counter()
    yield counts
    record_property(TRIED, dict(counts))
    record_property(SLOWEST_END, SLOWEST_END_S[0])


@pytest.fixture(scope="module")
def stub_runs() -> Iterator[StubRuns]:
    """Runs with a stub in place of the model, some milliseconds each."""
    with StubRuns() as runs:
        yield runs
