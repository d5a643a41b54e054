"""The figures of a daemon over HTTP: `/metrics` for Prometheus, `/healthz` for an orchestrator."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from pipeline.errors import OutputError
from pipeline.monitoring.daemon_stats import LAG_BOUNDS_S, DaemonStats

logger = logging.getLogger(__name__)

_REQUEST_TIMEOUT_S = 10.0


class MetricsServer:
    """Serves `stats` at `host:port` from its own thread; with port 0 `port` is a free one.

    The constructor binds the address, so that a wrong one fails at the start; requests are answered from `start` on.

    Raises:
        OutputError: the address cannot be bound.
    """

    def __init__(self, host: str, port: int, stats: DaemonStats) -> None:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_DaemonStatsCollector(stats))

        class Handler(_Handler):
            pages = {  # noqa: RUF012 - one server, one handler class
                "/metrics": lambda: (200, CONTENT_TYPE_LATEST, generate_latest(registry)),
                "/healthz": lambda: _health(stats),
            }

        self._thread: threading.Thread | None = None
        try:
            self._server = (_Ipv6Server if ":" in host else _Server)((host, port), Handler)
        except OSError as error:
            raise OutputError(f"metrics cannot be served at {host}:{port}: {error.strerror or error}") from error
        self.port = self._server.server_address[1]

    def start(self) -> None:
        """Start to answer requests."""
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()
        logger.info("metrics at port %d", self.port, extra={"fields": {"port": self.port}})

    def close(self) -> None:
        """Stop to answer requests, and free the address."""
        if self._thread is not None:
            self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore the error: a client that closes the connection early is not worth a traceback in the log."""


class _Ipv6Server(_Server):
    address_family = socket.AF_INET6


class _Handler(BaseHTTPRequestHandler):
    timeout = _REQUEST_TIMEOUT_S
    pages: dict[str, object]

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        page = self.pages.get(self.path.partition("?")[0])
        status, kind, body = page() if callable(page) else (404, "text/plain", b"try /metrics or /healthz\n")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Log nothing: scrapes every few seconds would fill the log."""


def _health(stats: DaemonStats) -> tuple[int, str, bytes]:
    return 200 if stats.health == "ok" else 503, "text/plain; charset=utf-8", f"{stats.health}\n".encode()


class _DaemonStatsCollector(Collector):
    def __init__(self, stats: DaemonStats) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        stats = self._stats
        images = CounterMetricFamily("labeldir_images", "Photos with a durable row", labels=["status"])
        images.add_metric(["ok"], stats.labelled - stats.unsure)
        images.add_metric(["unsure"], stats.unsure)
        images.add_metric(["error"], stats.failed.total())
        yield images
        for name, text, value in (
            ("rescan_finds", "Photos that no event announced and a timed scan found", stats.rescan_finds),
            ("process_restarts", "Decode and classifier processes that were replaced", stats.process_restarts),
            ("observer_restarts", "Event observers that were replaced", stats.observer_restarts),
            ("unchanged", "Photos opened whose content had its row already", stats.unchanged),
            ("vanished", "Photos gone before they could be read", stats.vanished),
        ):
            yield CounterMetricFamily(f"labeldir_{name}", text, value=value)
        for name, text, gauge in (
            ("queue_depth", "Photos known and without a row", stats.queue_depth),
            ("rows_not_durable", "Rows made and not on disk yet", stats.rows_not_durable),
            ("oldest_unlabelled_seconds", "Age of the oldest photo without a row", stats.oldest_unlabelled_s),
            ("last_success_timestamp_seconds", "When rows were last made durable", stats.last_success_at or 0.0),
            ("healthy", "1 where /healthz says ok", float(stats.health == "ok")),
        ):
            yield GaugeMetricFamily(f"labeldir_{name}", text, value=gauge)
        yield self._lag()

    def _lag(self) -> Metric:
        buckets: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip([*map(str, LAG_BOUNDS_S), "+Inf"], self._stats.lag.counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        lag = HistogramMetricFamily("labeldir_lag_seconds", "From a photo's last change to its row being readable")
        lag.add_metric([], buckets, self._stats.lag.sum_s)
        return lag
