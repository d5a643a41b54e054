"""A Ray cluster that is already there, as far as labelling needs it: its nodes, an actor on each, calls and answers."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jobs
from jobs.scaling.range_labeller import PartsRequest
from jobs.scaling.range_process import News, Order
from jobs.scaling.ray_node import RayNode
from models.system.outside_text import terminal_text
from pipeline.errors import InputMissingError, LabelDirError, UsageError

_CLOSE_WAIT_S = 10.0
_GET_WAIT_S = 10.0
_LONGEST_REASON = 500


class NodeLostError(LabelDirError):
    """An actor has ended, or its node has; the text says why."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node that can work: its address and the CPUs that it offers."""

    address: str
    cpus: int


class RayCluster:
    """Nodes and actors of the cluster that `ray` is connected to."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def nodes(self) -> dict[str, NodeFacts]:
        """Return the nodes that live and offer CPUs, by their ids."""
        return {
            node["NodeID"]: NodeFacts(terminal_text(node["NodeManagerAddress"]), int(node["Resources"]["CPU"]))
            for node in self._ray.nodes()
            if node["Alive"] and node["Resources"].get("CPU", 0) >= 1
        }

    def start(self, node_id: str, cpus: int, request: PartsRequest) -> Any:
        """Start an actor on a node as soon as all CPUs that the node offers are free; return its handle."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        there = NodeAffinitySchedulingStrategy(node_id, soft=False)
        return self._ray.remote(RayNode).options(num_cpus=cpus, scheduling_strategy=there).remote(request, cpus)

    def exchange(self, actor: Any, order: Order | None) -> Any:
        """Begin `RayNode.exchange`; return the call."""
        return actor.exchange.remote(order)

    def finished(self, calls: Sequence[Any], timeout_s: float) -> list[Any]:
        """Return those of `calls` that have an answer, as soon as one has."""
        done: list[Any] = self._ray.wait(calls, timeout=timeout_s)[0]
        return done

    def answer(self, call: Any) -> list[News]:
        """Return the answer of a finished call. Raises NodeLostError."""
        try:
            news: list[News] = self._ray.get(call, timeout=_GET_WAIT_S)
        except self._ray.exceptions.RayError as error:
            raise NodeLostError(_reason(error)) from error
        return news

    def kill(self, actor: Any) -> None:
        """End an actor and its processes at once."""
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(actor)

    def close(self, actors: Sequence[Any]) -> None:
        """Let actors end their processes, and wait for that for some seconds."""
        calls = [actor.close.remote() for actor in actors]
        if calls:
            self._ray.wait(calls, num_returns=len(calls), timeout=_CLOSE_WAIT_S)


@contextlib.contextmanager
def connected(address: str) -> Iterator[RayCluster]:
    """Give the cluster at `address`: auto, HOST:PORT or ray://HOST:PORT; actors end with the block.

    Raises:
        UsageError: ray is not installed, or `address` asks for a cluster that does not exist yet.
        InputMissingError: no cluster answers there.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError("--ray needs the extra `ray`: pip install 'label-dir[ray]'")
    if address == "local":
        # Ray would start one, which listens on all addresses of this machine.
        raise UsageError("--ray uses a cluster that runs already: auto, HOST:PORT or ray://HOST:PORT")
    # Nothing about a run is reported to others.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    try:
        # Ray makes the working directory a place of Python modules on each node; it may hold modules of the user's.
        with contextlib.chdir(Path(jobs.__file__).parents[1]):
            ray.init(address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        raise InputMissingError(f"the Ray cluster {terminal_text(address)} cannot be used: {_reason(error)}") from error
    try:
        yield RayCluster(ray)
    finally:
        ray.shutdown()


def _reason(error: Exception) -> str:
    # What happened often stands in the last of several lines.
    return terminal_text(" ".join(str(error).split()) or type(error).__name__)[:_LONGEST_REASON]
