"""The simulation behind docs/scaling.png keeps to arithmetic that can be done by hand."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from scaling_costs import Costs  # noqa: E402
from scaling_simulation import (  # noqa: E402
    CPU,
    GETS,
    LISTING,
    MERGE,
    NETWORK,
    NODE_COUNTS,
    STRAGGLERS,
    Assumptions,
    simulate,
    table,
)

# Nothing costs anything but the photos themselves: 100 photos/s a core.
FREE = Costs(100.0, 0.0, 0.0, 50_000.0, 0.0, 0.0, float("inf"), float("inf"))
GIVEN = Assumptions(photos=6_400_000, request_s=0.0, speed_spread=1e-9, gets_per_s=float("inf"))


@pytest.mark.parametrize("nodes", NODE_COUNTS)
def test_without_other_costs_the_rate_is_that_of_all_cores(nodes: int) -> None:
    outcome = simulate(nodes, FREE, GIVEN)
    assert outcome.photos_per_s == pytest.approx(nodes * 16 * 100)
    assert [limit for limit, _ in outcome.limits] == [CPU]
    assert outcome.limits[0][1] == pytest.approx(1)


@pytest.mark.parametrize(
    ("changed_costs", "changed_given", "limit", "rate"),
    [
        ({}, {"gets_per_s": 5_500.0}, GETS, 5_500),
        ({}, {"gets_per_s": 5_500.0, "prefixes": 4}, GETS, 22_000),
        ({}, {"network_gbit_per_s": 0.04}, NETWORK, 64 * 100),
        ({}, {"request_s": 10.0}, LISTING, None),
        ({"merged_rows_per_s": 1_000.0}, {}, MERGE, None),
        ({}, {"photos": 20_000}, STRAGGLERS, 1_600),
    ],
)
def test_what_is_short_is_named_and_sets_the_rate(
    changed_costs: dict[str, float], changed_given: dict[str, float], limit: str, rate: float | None
) -> None:
    outcome = simulate(64, replace(FREE, **changed_costs), replace(GIVEN, **changed_given))  # type: ignore[arg-type]
    assert outcome.limits[0][0] == limit
    assert sum(share for _, share in outcome.shares) == pytest.approx(1)
    if rate is not None:
        assert outcome.photos_per_s == pytest.approx(rate)


def test_the_table_has_a_line_for_each_number_of_nodes_with_its_limit() -> None:
    outcomes = [simulate(nodes, FREE, GIVEN) for nodes in NODE_COUNTS]
    lines = table({"one prefix": outcomes}).splitlines()
    assert len(lines) == 2 + len(NODE_COUNTS)
    assert lines[-1] == "| 64 | 102,400 | 0.0 | CPU (100%) |"
