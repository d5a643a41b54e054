"""A Ray cluster of several nodes on this machine, at 127.0.0.2 and further, for tests in a network of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from tests.support.own_network import bring_up_loopback

_OBJECT_STORE_BYTES = 80 << 20
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    # Processes that nobody needs here take seconds to start.
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    # A node that is busy, or frozen by a test, is not dead.
    "RAY_health_check_failure_threshold": "100",
}
_STARTS = 3


class RayNodes:
    """A head at 127.0.0.2 that offers no CPUs, and nodes that offer some."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self._next = 3
        self._nodes: dict[str, Any] = {}
        self._cluster = Cluster()
        self._started(
            num_cpus=0, include_dashboard=False, no_monitor=True, temp_dir=str(folder), node_ip_address="127.0.0.2"
        )
        self.address: str = self._cluster.address

    def add(self, environment: Mapping[str, str] | None = None, cpus: int = 1) -> str:
        """Start a node whose processes have some variables; return its address."""
        address = f"127.0.0.{self._next}"
        self._next += 1
        before = dict(os.environ)
        os.environ.update(environment or {})
        try:
            self._nodes[address] = self._started(num_cpus=cpus, node_ip_address=address)
        finally:
            os.environ.clear()
            os.environ.update(before)
        return address

    def kill(self, address: str) -> None:
        """End a node's raylet, and with it the whole node."""
        raylet = self._nodes[address].all_processes["raylet"][0].process
        raylet.kill()
        # Its processes live on while it is a zombie.
        raylet.wait()

    def freeze(self, address: str) -> None:
        """Suspend all processes of a node."""
        for process in self.processes(address):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self, address: str) -> None:
        """Let the processes of a node go on."""
        for process in reversed(self.processes(address)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def processes(self, address: str) -> list[psutil.Process]:
        """The raylet of a node and all that it has started."""
        raylet = self._raylet(address)
        return [raylet, *raylet.children(recursive=True)]

    def shut_down(self) -> None:
        """End all nodes."""
        self._cluster.shutdown()

    def _started(self, **options: object) -> Any:
        for attempt in range(_STARTS):
            try:
                return self._cluster.add_node(
                    object_store_memory=_OBJECT_STORE_BYTES, include_log_monitor=False, **options
                )
            except Exception:
                # Ray itself waits half a minute, which a busy machine may exceed.
                if attempt == _STARTS - 1:
                    raise
        return None

    def _raylet(self, address: str) -> psutil.Process:
        return psutil.Process(self._nodes[address].all_processes["raylet"][0].process.pid)


@contextlib.contextmanager
def running_ray() -> Iterator[RayNodes]:
    """A cluster without nodes that work, until the block ends."""
    bring_up_loopback()
    os.environ.update(_ENVIRONMENT)
    # Ray makes sockets there, whose paths must be short.
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    try:
        nodes = RayNodes(folder)
        try:
            yield nodes
        finally:
            nodes.shut_down()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
