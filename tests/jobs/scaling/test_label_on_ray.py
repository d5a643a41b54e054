"""What the driver of a Ray run promises, with nodes that answer as a test says; test_ray.py has real ones."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jobs.cli.options import LabellingOptions
from jobs.labelling.label_folder import LabelRequest
from jobs.scaling import label_on_ray as driver
from jobs.scaling.range_labeller import PartsRequest
from jobs.scaling.range_plan import PlannedRange
from jobs.scaling.range_process import Alive, Done, Failed, News, Order, Ready
from jobs.scaling.range_queue import Failure
from jobs.scaling.ray_cluster import NodeFacts, NodeLostError, RayCluster
from pipeline.errors import ExitCode, LabelDirError, UsageError, WorkerDiedError
from pipeline.records import RunSummary

_SUMMARY = RunSummary(10, 0, 0, {}, 0, 0, 0, 0, 1.0, 1.0, Path("part"))
Behaviour = Callable[["Actor", PlannedRange], list[News]]


def labels(actor: Actor, planned: PlannedRange) -> list[News]:
    return [Done(planned.index, _SUMMARY)]


def dies(actor: Actor, planned: PlannedRange) -> list[News]:
    raise NodeLostError("the power was cut")


def is_lost_with(failure: Failure) -> Behaviour:
    return lambda actor, planned: [Failed(planned.index, failure)]


def freezes(actor: Actor, planned: PlannedRange) -> list[News]:
    actor.is_frozen = True
    return []


@dataclass(eq=False)
class Actor:
    """An actor on a node, and what it does with a range."""

    behaviour: Behaviour
    model_id: str = "tiny@1"
    is_ready: bool = False
    is_frozen: bool = False

    def answer(self, order: Order | None) -> list[News]:
        if not self.is_ready:
            self.is_ready = True
            return [Ready(self.model_id)]
        return self.behaviour(self, order) if isinstance(order, PlannedRange) else [Alive(10)]


class Nodes(RayCluster):
    """A cluster whose nodes do what `behaviours` says."""

    def __init__(self, behaviours: dict[str, Behaviour], models: dict[str, str]) -> None:
        self._behaviours = behaviours
        self._models = models
        self.given: Counter[tuple[str, int]] = Counter()
        self.starts: Counter[str] = Counter()

    def nodes(self) -> dict[str, NodeFacts]:
        return {name: NodeFacts(name, 1) for name in self._behaviours}

    def start(self, node_id: str, cpus: int, request: PartsRequest) -> Any:
        self.starts[node_id] += 1
        return node_id, Actor(self._behaviours[node_id], self._models.get(node_id, "tiny@1"))

    def exchange(self, actor: Any, order: Order | None) -> Any:
        if isinstance(order, PlannedRange):
            self.given[actor[0], order.index] += 1
        return actor[1], order

    def finished(self, calls: Sequence[Any], timeout_s: float) -> list[Any]:
        return [call for call in calls if not call[0].is_frozen]

    def answer(self, call: Any) -> list[News]:
        actor, order = call
        answer: list[News] = actor.answer(order)
        return answer

    def kill(self, actor: Any) -> None:
        """Nothing runs."""

    def close(self, actors: Sequence[Any]) -> None:
        """Nothing runs."""


@pytest.fixture
def label(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[RunSummary, Nodes]]:
    """A function that labels 100 photos in ten ranges with nodes that behave as it is told."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(100):
        (photos / f"{number:03d}.jpg").touch()
    # Nodes are looked for in each turn of the loop.
    monkeypatch.setattr(driver, "_LOOK_FOR_NODES_S", 0.0)

    def run(models: dict[str, str] | None = None, **behaviours: Behaviour) -> tuple[RunSummary, Nodes]:
        nodes = Nodes(behaviours, models or {})

        @contextlib.contextmanager
        def connected(address: str) -> Iterator[Nodes]:
            yield nodes

        monkeypatch.setattr(driver, "connected", connected)
        request = PartsRequest(LabelRequest(photos, Path("part.parquet"), LabellingOptions()), tmp_path / "parts", 10)
        try:
            return driver.label_on_ray(request, "auto", late_s=0.2), nodes
        except LabelDirError as error:
            error.nodes = nodes  # type: ignore[attr-defined]
            raise

    return run


def test_all_ranges_are_labelled_once_by_the_nodes_that_can(label: Callable[..., tuple[RunSummary, Nodes]]) -> None:
    summary, nodes = label(good=labels, mortal=dies)
    assert summary.labelled == 100
    assert {index for node, index in nodes.given if node == "good"} == set(range(10))
    assert nodes.starts == {"good": 1, "mortal": 3}


def test_the_range_of_a_frozen_node_is_labelled_by_another(label: Callable[..., tuple[RunSummary, Nodes]]) -> None:
    summary, nodes = label(frozen=freezes, good=labels)
    assert summary.labelled == 100
    assert sum(nodes.given.values()) == 11


def test_where_no_node_can_work_the_reason_is_told(label: Callable[..., tuple[RunSummary, Nodes]]) -> None:
    with pytest.raises(WorkerDiedError, match="no node of the Ray cluster can work: a: the power was cut"):
        label(a=dies)


@pytest.mark.parametrize("code", [ExitCode.INPUT_MISSING, ExitCode.OUTPUT_UNWRITABLE, ExitCode.PHOTOS_GONE])
def test_what_ends_a_run_on_one_machine_ends_this_run_with_the_same_code(
    label: Callable[..., tuple[RunSummary, Nodes]], code: ExitCode
) -> None:
    with pytest.raises(LabelDirError, match="a: the bucket is gone") as raised:
        label(a=is_lost_with(Failure("the bucket is gone", code)))
    assert raised.value.exit_code == code


@pytest.mark.parametrize("code", [ExitCode.LOCKED, ExitCode.BUG])
def test_ranges_that_fail_again_and_again_are_given_up_and_the_others_are_labelled(
    label: Callable[..., tuple[RunSummary, Nodes]], code: ExitCode
) -> None:
    def fails_at_one(actor: Actor, planned: PlannedRange) -> list[News]:
        return [Failed(3, Failure("no", code))] if planned.index == 3 else labels(actor, planned)

    with pytest.raises(LabelDirError, match="1 ranges were given up after 3 attempts each, the first: a: no") as raised:
        label(a=fails_at_one)
    assert raised.value.exit_code == code
    assert raised.value.nodes.given == {("a", index): 3 if index == 3 else 1 for index in range(10)}  # type: ignore[attr-defined]


def test_a_node_with_another_model_ends_the_run_before_it_labels(
    label: Callable[..., tuple[RunSummary, Nodes]],
) -> None:
    with pytest.raises(UsageError, match="tiny@1 on a and tiny@2 on b") as raised:
        label(a=labels, b=labels, models={"b": "tiny@2"})
    assert not [node for node, _ in raised.value.nodes.given if node == "b"]  # type: ignore[attr-defined]
