"""A plan of ranges that is not one of label-dir's is refused, whatever it holds."""

from __future__ import annotations

import json

import pytest

from jobs.scaling.range_plan import RangePlan, parsed_plan
from pipeline.errors import UsageError


@pytest.mark.parametrize(
    "changes",
    [
        {"photos": 5},
        {"photos": None},
        {"cuts": "abc"},
        {"cuts": [1, 2]},
        {"cuts": ["b", "a"]},
        {"cuts": {"a": 1}},
        {"is_sorted": "no"},
        {"format": "label-dir ranges 99"},
    ],
)
def test_a_plan_with_values_of_another_kind_is_refused_by_its_place(changes: dict[str, object]) -> None:
    plan = RangePlan("photos", ("a", "b"), True)
    document = json.loads(plan.to_json())
    assert parsed_plan(json.dumps(document).encode(), "parts/ranges.json") == plan
    with pytest.raises(UsageError, match=r"parts/ranges\.json is no plan of label-dir"):
        parsed_plan(json.dumps({**document, **changes}).encode(), "parts/ranges.json")
