"""The actor of one node: passes orders to the process that labels ranges, and its news to the driver."""

from __future__ import annotations

import os

from jobs.scaling.range_labeller import PartsRequest
from jobs.scaling.range_process import Failed, News, Order, label_ordered_ranges
from jobs.scaling.range_queue import Failure
from models.system.worker import WORKER_GONE, WorkerOptions, start_worker

_WAIT_S = 1.0
_END_PATIENCE_S = 10.0


class RayNode:
    """An actor's class; the process ends with the actor, however that ends."""

    def __init__(self, request: PartsRequest, cpus: int) -> None:
        # With threads of numpy, the process could not fork its workers. Ray's number is for Ray's own worker.
        os.environ["OPENBLAS_NUM_THREADS"] = "1"
        os.environ.pop("OMP_NUM_THREADS", None)
        options = WorkerOptions("spawn", "label-ranges", has_own_threads=True)
        self._worker = start_worker(label_ordered_ranges, options, request, cpus)

    def exchange(self, order: Order | None) -> list[News]:
        """Pass on an order, wait a moment for news, and return them; `Failed` without a range is the process's end."""
        connection = self._worker.connection
        news: list[News] = []
        try:
            if order is not None:
                connection.send(order)
            if connection.poll(_WAIT_S):
                news.append(connection.recv())
                while connection.poll():
                    news.append(connection.recv())
        except WORKER_GONE:
            news.append(Failed(None, Failure(f"its process ended: {self._worker.end(_WAIT_S)}")))
        return news

    def close(self) -> None:
        """End the process after the range at work is published as far as it is labelled."""
        self._worker.end(_END_PATIENCE_S)
