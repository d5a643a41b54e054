"""Usable CPUs, physical cores and disjoint CPU sets; pure, but for one function that reads the machine."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, order=True)
class Cpu:
    """One logical CPU: its memory node, its last-level cache, the core it shares with a hyper-thread, its number."""

    node: int
    cache: int
    core: int
    index: int


@dataclass(frozen=True, slots=True)
class Machine:
    """The CPUs this process may run on, and how much CPU time it may use, in CPUs (None: no quota)."""

    cpus: tuple[Cpu, ...]
    quota_cpus: float | None


@dataclass(frozen=True, slots=True)
class CpuSet:
    """The logical CPUs of one classifier worker, one hardware thread per physical core first."""

    indices: tuple[int, ...]


def usable_cores(machine: Machine) -> int:
    """How many physical cores' worth of work the machine allows: its cores, or the quota rounded down, at least 1."""
    cores = len({(cpu.node, cpu.core) for cpu in machine.cpus})
    if machine.quota_cpus is None:
        return max(1, cores)
    return max(1, min(cores, math.floor(machine.quota_cpus + 0.01)))


def cpu_sets(machine: Machine, processes: int, threads: int) -> tuple[CpuSet, ...]:
    """Give each of `processes` its own `threads` CPUs.

    Neighbours go to one set: it stays within a memory node and a last-level cache where it fits. No two sets share a
    physical core while another is free; hyper-threads are used only when the cores are used up, and a CPU is shared
    only when everything is.

    Raises:
        ValueError: `processes` or `threads` is less than 1, or the machine has no CPU.
    """
    if processes < 1 or threads < 1 or not machine.cpus:
        raise ValueError("processes, threads and CPUs must each be at least 1")
    order = _first_threads_then_siblings(machine.cpus)
    sets: list[CpuSet] = []
    free = list(order)
    for _ in range(processes):
        if len(free) < threads:
            free.extend(order)
        chosen = _neighbours(free, threads)
        for cpu in chosen:
            free.remove(cpu)
        sets.append(CpuSet(tuple(cpu.index for cpu in chosen)))
    return tuple(sets)


def whole_cores(machine: Machine, cpus: CpuSet) -> CpuSet:
    """Return all CPUs of `machine` on the physical cores of `cpus`: those themselves and their hyper-threads."""
    cores = {(cpu.node, cpu.core) for cpu in machine.cpus if cpu.index in cpus.indices}
    return CpuSet(tuple(cpu.index for cpu in sorted(machine.cpus) if (cpu.node, cpu.core) in cores))


def _first_threads_then_siblings(cpus: Iterable[Cpu]) -> list[Cpu]:
    rank: dict[tuple[int, int], int] = {}
    ranked: list[tuple[int, Cpu]] = []
    for cpu in sorted(cpus):
        level = rank.get((cpu.node, cpu.core), 0)
        rank[cpu.node, cpu.core] = level + 1
        ranked.append((level, cpu))
    return [cpu for _, cpu in sorted(ranked)]


def _neighbours(free: list[Cpu], threads: int) -> list[Cpu]:
    """Take the first run of `threads` free CPUs that shares a cache, else a node, else simply the first ones."""
    window = free[:threads]
    for place in (lambda cpu: (cpu.node, cpu.cache), lambda cpu: (cpu.node, 0)):
        for start in range(len(free) - threads + 1):
            run = free[start : start + threads]
            if len({place(cpu) for cpu in run}) == 1 and len(set(run)) == threads:
                return run
    return window


def parse_cpu_max(text: str) -> float | None:
    """Read a cgroup v2 `cpu.max` line ("max 100000", "150000 100000"): CPUs allowed, None for no limit."""
    quota, _, period = text.strip().partition(" ")
    if quota in ("", "max"):
        return None
    return int(quota) / int(period or 100000)


def this_machine(root: Path = Path("/")) -> Machine:
    """Return the CPUs and the quota of this process; `root` stands for `/`, so that tests can describe a machine."""
    usable = sorted(os.sched_getaffinity(0))
    return Machine(tuple(_described(index, root) for index in usable), _quota(root))


def _described(index: int, root: Path) -> Cpu:
    folder = root / f"sys/devices/system/cpu/cpu{index}"
    package = _integer(folder / "topology/physical_package_id", 0)
    core = _integer(folder / "topology/core_id", index)
    nodes = sorted(int(path.name[4:]) for path in folder.glob("node[0-9]*"))
    cache = _integer(folder / "cache/index3/id", package)
    return Cpu(nodes[0] if nodes else package, cache, package * 65536 + core, index)


def _integer(path: Path, otherwise: int) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return otherwise


def _quota(root: Path) -> float | None:
    """Return the tightest quota on the way from this process's control group up to the root (v2, then v1)."""
    limits = [limit for folder in _cgroup_folders(root) if (limit := _folder_quota(folder)) is not None]
    return min(limits, default=None)


def _cgroup_folders(root: Path) -> list[Path]:
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    folders: list[Path] = []
    for line in lines:
        number, controllers, name = line.split(":", 2)
        if number == "0":
            mounts = ["sys/fs/cgroup", "sys/fs/cgroup/unified"]
        elif "cpu" in controllers.split(","):
            mounts = [f"sys/fs/cgroup/{controllers}", "sys/fs/cgroup/cpu"]
        else:
            continue
        parts = [part for part in name.split("/") if part and part != ".."]
        folders += [root / mount / Path(*parts[:depth]) for mount in mounts for depth in range(len(parts) + 1)]
    return folders


def _folder_quota(folder: Path) -> float | None:
    try:
        return parse_cpu_max((folder / "cpu.max").read_text())
    except (OSError, ValueError):
        pass
    quota = _integer(folder / "cpu.cfs_quota_us", -1)
    period = _integer(folder / "cpu.cfs_period_us", 0)
    return quota / period if quota > 0 and period > 0 else None
