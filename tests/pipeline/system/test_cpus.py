"""CPU sets on described machines: disjoint, close together, and never two on one core while another core is free."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path

import pytest

from pipeline.planning.plan import Settings, Sizes, chosen_sizes, default_sizes, plan_for
from pipeline.system.cpus import Cpu, Machine, cpu_sets, parse_cpu_max, this_machine, usable_cores


def machine(
    cores: int, siblings: int = 1, nodes: int = 1, cores_per_cache: int | None = None, quota: float | None = None
) -> Machine:
    """`cores` physical cores in all; hyper-threads are numbered as Linux does: all first threads, then the second."""
    per_node = cores // nodes
    cpus = [
        Cpu(core // per_node, core // (cores_per_cache or per_node), core, core + level * cores)
        for core in range(cores)
        for level in range(siblings)
    ]
    return Machine(tuple(cpus), quota)


MACHINES = {
    "1 CPU": machine(1),
    "2 CPUs": machine(2),
    "1 core of 2 threads": machine(1, siblings=2),
    "8 CPUs on 4 cores": machine(4, siblings=2),
    "64 CPUs in 8 caches": machine(64, cores_per_cache=8),
    "2 nodes x 96 CPUs": machine(96, siblings=2, nodes=2, cores_per_cache=8),
}


def core_of(described: Machine) -> dict[int, int]:
    return {cpu.index: cpu.core for cpu in described.cpus}


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("name", MACHINES)
def test_sets_share_neither_a_cpu_nor_a_core_while_there_are_cores(name: str, threads: int) -> None:
    described = MACHINES[name]
    cores = usable_cores(described)
    threads = min(threads, cores)
    sets = cpu_sets(described, cores // threads, threads)
    used = list(chain.from_iterable(cpus.indices for cpus in sets))
    assert all(len(cpus.indices) == threads for cpus in sets)
    assert len({core_of(described)[index] for index in used}) == len(used)


@pytest.mark.parametrize("name", MACHINES)
def test_hyper_threads_are_used_once_all_cores_are_and_each_only_once(name: str) -> None:
    described = MACHINES[name]
    used = [cpus.indices[0] for cpus in cpu_sets(described, len(described.cpus), 1)]
    assert sorted(used) == sorted(cpu.index for cpu in described.cpus)
    cores = usable_cores(described)
    assert len({core_of(described)[index] for index in used[:cores]}) == cores


@pytest.mark.parametrize("name", MACHINES)
def test_more_processes_than_cpus_share_them_evenly(name: str) -> None:
    described = MACHINES[name]
    used = [cpus.indices[0] for cpus in cpu_sets(described, 2 * len(described.cpus), 1)]
    assert {used.count(cpu.index) for cpu in described.cpus} == {2}


@pytest.mark.parametrize("threads", [2, 4, 8])
def test_the_threads_of_one_process_stay_within_a_cache_and_a_memory_node(threads: int) -> None:
    described = MACHINES["2 nodes x 96 CPUs"]
    place = {cpu.index: (cpu.node, cpu.cache) for cpu in described.cpus}
    for cpus in cpu_sets(described, 96 // threads, threads):
        assert len({place[index] for index in cpus.indices}) == 1


def test_a_process_too_wide_for_a_cache_stays_within_its_memory_node() -> None:
    described = MACHINES["2 nodes x 96 CPUs"]
    node = {cpu.index: cpu.node for cpu in described.cpus}
    for cpus in cpu_sets(described, 6, 16):
        assert len({node[index] for index in cpus.indices}) == 1


def test_an_affinity_that_cuts_through_cores_is_kept_to() -> None:
    whole = MACHINES["8 CPUs on 4 cores"]
    allowed = Machine(tuple(cpu for cpu in whole.cpus if cpu.index in {1, 2, 5}), None)
    assert usable_cores(allowed) == 2
    assert [cpus.indices for cpus in cpu_sets(allowed, 3, 1)] == [(1,), (2,), (5,)]


@pytest.mark.parametrize("name", MACHINES)
def test_each_decoder_keeps_to_the_core_of_one_classifier_hyper_threads_included(name: str) -> None:
    described = MACHINES[name]
    plan = plan_for(described, Settings())
    core = core_of(described)
    for classifier, decoder in zip(plan.cpu_sets, plan.loader.cpu_sets, strict=True):
        assert set(decoder.indices) == {index for index in core if core[index] == core[classifier.indices[0]]}


@pytest.mark.parametrize("settings", [Settings(pool=1), Settings(workers=5), Settings(pool=2, threads=2)])
def test_decoders_run_anywhere_where_keeping_to_the_classifiers_would_leave_cores_idle(settings: Settings) -> None:
    assert plan_for(machine(8), settings).loader.cpu_sets == ()


def test_under_a_quota_decoders_and_classifiers_share_as_many_cores_as_it_pays_for() -> None:
    plan = plan_for(machine(8, quota=2.0), Settings())
    assert plan.loader.cpu_sets == plan.cpu_sets == cpu_sets(machine(8), 2, 1)


@pytest.mark.parametrize(
    ("quota", "cores"), [(None, 8), (64.0, 8), (8.0, 8), (3.5, 3), (2.0, 2), (1.999, 2), (1.0, 1), (0.25, 1)]
)
def test_a_quota_bounds_the_work_whatever_the_cores(quota: float | None, cores: int) -> None:
    assert usable_cores(machine(8, quota=quota)) == cores


@pytest.mark.parametrize(
    ("text", "cpus"), [("max 100000", None), ("150000 100000", 1.5), ("200000", 2.0), ("\n", None)]
)
def test_cpu_max_reads_as_cpus(text: str, cpus: float | None) -> None:
    assert parse_cpu_max(text) == cpus


@pytest.mark.parametrize("name", MACHINES)
def test_the_default_is_one_classifier_and_one_decoder_for_every_core(name: str) -> None:
    cores = usable_cores(MACHINES[name])
    assert default_sizes(MACHINES[name]) == Sizes(cores, 1, cores, 4)


def test_what_the_user_sets_comes_before_what_was_tuned_and_that_before_the_default() -> None:
    described, tuned = MACHINES["64 CPUs in 8 caches"], Sizes(32, 2, 80, 8)
    assert chosen_sizes(described, Settings(), tuned) == tuned
    assert chosen_sizes(described, Settings(batch_size=4, workers=3), tuned) == Sizes(32, 2, 3, 4)
    assert chosen_sizes(described, Settings(threads=8)) == Sizes(8, 8, 64, 4)
    assert chosen_sizes(described, Settings(pool=5)) == Sizes(5, 1, 64, 4)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "250000 100000\n"}, 2.5),
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "100000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "250000 100000\n",
            },
            1.0,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3.0),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/job\n",
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "150000\n",
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
            },
            1.5,
        ),
        ({}, None),
    ],
)
def test_the_tightest_quota_on_the_way_to_the_root_counts(
    files: dict[str, str], quota: float | None, tmp_path: Path
) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert this_machine(tmp_path).quota_cpus == quota


def test_topology_is_read_for_the_cpus_this_process_may_use(tmp_path: Path) -> None:
    usable = sorted(os.sched_getaffinity(0))
    for index in usable:
        folder = tmp_path / f"sys/devices/system/cpu/cpu{index}"
        (folder / "node1").mkdir(parents=True)
        for name, text in {
            "topology/core_id": "7",
            "topology/physical_package_id": "1",
            "cache/index3/id": "4",
        }.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(f"{text}\n")
    cpus = this_machine(tmp_path).cpus
    assert [cpu.index for cpu in cpus] == usable
    assert {(cpu.node, cpu.cache) for cpu in cpus} == {(1, 4)}
    assert len({cpu.core for cpu in cpus}) == 1
