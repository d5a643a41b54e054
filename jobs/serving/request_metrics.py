"""The figures of the server, for Prometheus; and whether it is well."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jobs.serving.app import ServerPart
from jobs.serving.offered_models import OfferedModels
from pipeline.records import Row

_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class RequestMetrics:
    """Counts requests to label photos and the rows they got."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._requests = Counter("labelserve_requests", "Requests to label photos", ["code"], registry=self.registry)
        self._photos = Counter("labelserve_photos", "Photos that got a row", ["status"], registry=self.registry)
        self._seconds = Histogram(
            "labelserve_request_seconds",
            "From the head of a request to its answer",
            buckets=_BOUNDS_S,
            registry=self.registry,
        )

    def note_request(self, status: int, seconds: float) -> None:
        """Count one request that was answered."""
        self._requests.labels(str(status)).inc()
        self._seconds.observe(seconds)

    def note_rows(self, rows: Iterable[Row]) -> None:
        """Count rows by their status."""
        for row in rows:
            self._photos.labels("error" if row.error else "unsure" if row.is_unsure else "ok").inc()


def health_part(models: OfferedModels, metrics: RequestMetrics, waiting_photos: Callable[[], int]) -> ServerPart:
    """Return /healthz (the process answers), /readyz (photos can be labelled) and /metrics."""
    metrics.registry.register(_ServerCollector(models, waiting_photos))

    async def healthy(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_request: Request) -> Response:
        labeller = models.loaded[models.default]
        if labeller.is_ready and labeller.problem is None:
            return JSONResponse({"status": "ok"})
        return JSONResponse({"status": labeller.problem or "the model is being loaded"}, 503, {"Retry-After": "1"})

    async def figures(_request: Request) -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    routes = [
        Route("/healthz", healthy, methods=["GET"]),
        Route("/readyz", ready, methods=["GET"]),
        Route("/metrics", figures, methods=["GET"]),
    ]
    return ServerPart(routes, ["/healthz", "/readyz"])


class _ServerCollector(Collector):
    def __init__(self, models: OfferedModels, waiting_photos: Callable[[], int]) -> None:
        self._models = models
        self._waiting_photos = waiting_photos

    def collect(self) -> Iterator[Metric]:
        labellers = dict(self._models.loaded)
        yield GaugeMetricFamily("labelserve_waiting_photos", "Photos without a row", value=self._waiting_photos())
        ready = GaugeMetricFamily("labelserve_model_ready", "1 where photos can be labelled", labels=["model"])
        restarts = CounterMetricFamily("labelserve_process_restarts", "Workers that were replaced", labels=["model"])
        for name, labeller in labellers.items():
            ready.add_metric([name], float(labeller.is_ready))
            restarts.add_metric([name], labeller.restarts)
        yield ready
        yield restarts
