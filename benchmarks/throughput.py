"""Photos per second of the whole pipeline against a bound, CPU time of each stage, and waiting of each process.

    python benchmarks/throughput.py                 the photos that scikit-image ships, as 0.19-megapixel JPEGs
    python benchmarks/throughput.py photos/         your own
    python benchmarks/throughput.py --megapixels 12

The bound is the rate of one process for each core that decodes and classifies alone, with the same code and no
transport between stages. Bound and pipeline alternate; medians are printed.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import click
import numpy as np
from process_tree import Usage, roles, usage_of
from sample_photos import make_folder, source_photos

from models.artifact import Artifact
from models.cache import ensure_artifact
from pipeline.decoding.decode import decode_bytes
from pipeline.decoding.decode_rules import DecodeRules
from pipeline.labeller import Labeller, LabellerPlan
from pipeline.loading.loader_kind import LOADER_NAMES, LoaderKind
from pipeline.planning.plan import Settings, plan_for
from pipeline.records import FileRef
from pipeline.sources.read_file import FileBytes, ReadLimits, read_file
from pipeline.sources.walk import WalkCounts, WalkRules, walk
from pipeline.system.cpus import cpu_sets, this_machine, usable_cores

_SHIPPED_MEGAPIXELS = 0.19


@dataclass(frozen=True, slots=True)
class Alone:
    """One process of the bound: photos per second, and CPU seconds per photo of each stage."""

    photos_per_s: float
    read_s: float
    decode_s: float
    infer_s: float


@dataclass(frozen=True, slots=True)
class Whole:
    """One run of the pipeline: photos per second, seconds from the first photo on, CPU seconds per photo of two stages,
    and the usage of each process by role."""

    photos_per_s: float
    labelling_s: float
    walk_s: float
    write_s: float
    usage: dict[str, list[Usage]]


def in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of `function`, run in a new process."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_send_result, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    result = ours.recv()
    process.join()
    return result


def _send_result(connection: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    connection.send(function(*arguments))


def measure_bound(folder: Path, artifact: Artifact, plan: LabellerPlan) -> list[Alone]:
    """The figures of one process for each core, all at the same time, each with its share of the folder."""
    machine = this_machine()
    cores = usable_cores(machine)
    context = multiprocessing.get_context("spawn")
    gate = context.Barrier(cores)
    waiting: list[tuple[Any, Connection]] = []
    for index, cpus in enumerate(cpu_sets(machine, cores, 1)):
        ours, theirs = context.Pipe()
        arguments = (theirs, _alone, (folder, artifact, plan, cpus.indices, index, cores, gate))
        process = context.Process(target=_send_result, args=arguments)
        process.start()
        theirs.close()
        waiting.append((process, ours))
    results = [connection.recv() for _, connection in waiting]
    for process, _ in waiting:
        process.join()
    return results


def _alone(
    folder: Path,
    artifact: Artifact,
    plan: LabellerPlan,
    cpus: tuple[int, ...],
    share: int,
    shares: int,
    gate: Any,
) -> Alone:
    os.sched_setaffinity(0, cpus)
    # OpenMP reads this when the library that resizes is loaded, as in a decode process.
    os.environ["OMP_NUM_THREADS"] = "1"
    from models.engines import load_engine

    refs = list(walk(folder, WalkRules(), WalkCounts()))[share::shares]
    rules = DecodeRules(artifact.preprocessing.crop, plan.limits)
    side = artifact.preprocessing.crop.crop_size
    pixels = np.zeros((plan.batch_size, side, side, 3), np.uint8)
    engine = load_engine(plan.engine, artifact.path, 1, plan.top_k, cpus)
    engine.warm_up(plan.batch_size)
    spent_s = np.zeros(3)
    for ref in refs[: plan.batch_size]:
        _decode_alone(ref, rules, pixels[0])
    gate.wait()
    began_s = time.perf_counter()
    for start in range(0, len(refs), plan.batch_size):
        batch = refs[start : start + plan.batch_size]
        for position, ref in enumerate(batch):
            spent_s[:2] += _decode_alone(ref, rules, pixels[position])
        began_cpu_s = time.thread_time()
        engine.classify(pixels[: len(batch)])
        spent_s[2] += time.thread_time() - began_cpu_s
    elapsed_s = time.perf_counter() - began_s
    return Alone(len(refs) / elapsed_s, *(spent_s / len(refs)).tolist())


def _decode_alone(ref: FileRef, rules: DecodeRules, pixels: np.ndarray[Any, Any]) -> tuple[float, float]:
    import hashlib

    began_s = time.thread_time()
    found = read_file(ref.path, rules.limits)
    if not isinstance(found, FileBytes):
        raise click.ClickException(f"{ref.path}: {found}")
    hashlib.sha256(found.content).digest()
    read_s = time.thread_time()
    decode_bytes(found.content, rules, pixels)
    return read_s - began_s, time.thread_time() - read_s


def measure_pipeline(folder: Path, artifact: Artifact, plan: LabellerPlan) -> Whole:
    """The figures of one run of the pipeline on the folder, in this process and its children.

    The processes are warm like those of the bound: each has decoded and classified before. `start_up.py` and `peers.py`
    measure the cost of starting them.
    """
    from pipeline.run import run
    from pipeline.run_request import Hooks, RunRequest

    refs = list(walk(folder, WalkRules(), WalkCounts()))
    count = len(refs)
    before: dict[int, Usage] = {}
    usage: dict[str, list[Usage]] = {}
    rows: Future[None] = Future()
    seen = 0

    def begin() -> None:
        before.update({pid: usage_of(pid) for pid in roles(os.getpid())})

    def take(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == count:
            for pid, role in roles(os.getpid()).items():
                usage.setdefault(role, []).append(_difference(usage_of(pid), before.get(pid)))
            rows.set_result(None)

    with tempfile.TemporaryDirectory() as scratch, Labeller(artifact, plan) as labeller:
        for _ in labeller.rows(iter(refs[: plan.slots * plan.batch_size])):
            pass
        request = RunRequest(folder, Path(scratch) / "out.parquet", artifact, plan)
        summary = run(request, Hooks(begin, take), labeller)
        rows.result(0)
        write_s = _write_cpu_s(Path(scratch))
    began_s = time.thread_time()
    for _ in walk(folder, WalkRules(), WalkCounts()):
        pass
    walk_s = (time.thread_time() - began_s) / count
    return Whole(summary.images_per_s, summary.labelling_s, walk_s, write_s, usage)


def _difference(after: Usage, before: Usage | None) -> Usage:
    if before is None:
        return after
    return Usage(after.cpu_s - before.cpu_s, after.running_s - before.running_s, after.queued_s - before.queued_s)


def _write_cpu_s(folder: Path) -> float:
    """CPU seconds per row of writing the table's rows once more, as parts and as a table."""
    import pyarrow.parquet as pq

    from pipeline.records import Row
    from pipeline.tables.merge import merge
    from pipeline.tables.part_store import PartStore
    from pipeline.tables.writer import export

    table = pq.read_table(folder / "out.parquet")
    top_k = sum(name.startswith("label_") for name in table.column_names)
    rows = [
        Row(
            file_name=cells["file_name"],
            error=None,
            labels=tuple(cells[f"label_{rank}"] for rank in range(1, top_k + 1)),
            probabilities=tuple(cells[f"prob_{rank}"] for rank in range(1, top_k + 1)),
            width=cells["width"],
            height=cells["height"],
            size_bytes=cells["size_bytes"],
            mtime_us=int(cells["mtime"].timestamp() * 1e6),
            sha256=cells["sha256"],
            model=cells["model"],
            labelled_at_us=int(cells["labelled_at"].timestamp() * 1e6),
        )
        for cells in table.to_pylist()
    ]
    parts = folder / "parts"
    parts.mkdir()
    store = PartStore(parts, top_k)
    began_s = time.thread_time()
    for row in rows:
        store.add(row)
    store.commit()
    export((piece.rows for piece in merge(store.committed())), folder / "again.parquet", top_k)
    return (time.thread_time() - began_s) / len(rows)


def stage_table(bounds: list[list[Alone]], wholes: list[Whole], photos: int) -> list[str]:
    """CPU milliseconds per photo of each stage, as Markdown lines; the rest of the pipeline's time is transport."""
    every = [alone for bound in bounds for alone in bound]
    stages = {
        "walk": statistics.median(whole.walk_s for whole in wholes),
        "read, sha256": statistics.median(alone.read_s for alone in every),
        "decode, resize": statistics.median(alone.decode_s for alone in every),
        "infer": statistics.median(alone.infer_s for alone in every),
        "write": statistics.median(whole.write_s for whole in wholes),
    }
    total_s = statistics.median(
        sum(used.cpu_s for role in whole.usage.values() for used in role) / photos for whole in wholes
    )
    stages["transport and the rest"] = total_s - sum(stages.values())
    stages["whole pipeline"] = total_s
    for role in wholes[0].usage:
        stages[f"of it in {role} processes"] = statistics.median(
            sum(used.cpu_s for used in whole.usage[role]) / photos for whole in wholes
        )
    lines = ["| stage | CPU ms per photo |", "|---|---|"]
    return lines + [f"| {name} | {seconds * 1000:.3f} |" for name, seconds in stages.items()]


def wait_table(wholes: list[Whole]) -> list[str]:
    """The shares of time that the main thread of each kind of process ran, was queued and waited, as Markdown lines."""
    waits_for = {"decode": "a free slot", "classify": "decoded photos", "main": "anything to do"}
    lines = ["| process | on a CPU | queued for a CPU | waiting for |", "|---|---|---|---|"]
    for role, awaited in waits_for.items():
        running, queued = (
            statistics.median(
                statistics.mean(getattr(used, part) for used in whole.usage[role]) / whole.labelling_s
                for whole in wholes
            )
            for part in ("running_s", "queued_s")
        )
        idle = max(0.0, 1 - running - queued)
        lines.append(f"| {role} | {running:.0%} | {queued:.0%} | {awaited}: {idle:.0%} |")
    return lines


@click.command()
@click.argument("photos", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--count", default=1000, show_default=True, help="Photos per run, by links to those of the folder.")
@click.option(
    "--megapixels", type=float, help="Resize the photos to this.  [default: as they are; 0.19 without PHOTOS]"
)
@click.option("--runs", default=3, show_default=True, help="Runs of each, alternating.")
@click.option("-m", "--model", default="efficientnet_lite0", show_default=True)
@click.option("-b", "--batch-size", type=int)
@click.option("-j", "--workers", type=int)
@click.option("--prefetch", type=int, help="Batches per decode process.")
@click.option("--loader", type=click.Choice(LOADER_NAMES), default="pipes", show_default=True)
def throughput(
    photos: Path | None,
    count: int,
    megapixels: float | None,
    runs: int,
    model: str,
    loader: str,
    **plan: int | None,
) -> None:
    """Measure the pipeline against its bound on PHOTOS, or on the photos that scikit-image ships."""
    artifact = ensure_artifact(model, click.echo)
    settings = Settings(
        batch_size=plan["batch_size"], workers=plan["workers"], loader=LoaderKind(loader), limits=ReadLimits()
    )
    chosen = plan_for(this_machine(), settings)
    if plan["prefetch"] is not None:
        chosen = replace(chosen, loader=replace(chosen.loader, prefetch=plan["prefetch"]))
    size = megapixels or (_SHIPPED_MEGAPIXELS if photos is None else None)
    bounds: list[list[Alone]] = []
    wholes: list[Whole] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_folder(Path(scratch) / "photos", source_photos(photos), count, size)
        for _ in range(runs):
            bounds.append(measure_bound(folder, artifact, chosen))
            wholes.append(in_new_process(measure_pipeline, folder, artifact, chosen))
    bound = statistics.median(sum(alone.photos_per_s for alone in each) for each in bounds)
    pipeline = statistics.median(whole.photos_per_s for whole in wholes)
    ratios = [
        whole.photos_per_s / sum(alone.photos_per_s for alone in each)
        for whole, each in zip(wholes, bounds, strict=True)
    ]
    click.echo(f"{artifact.model_id}, {count} photos, medians of {runs} alternating runs\n")
    spread = f"{statistics.median(ratios):.3f} ({min(ratios):.2f} to {max(ratios):.2f})"
    click.echo(f"pipeline {pipeline:.1f} photos/s, bound {bound:.1f} photos/s, ratio {spread}\n")
    click.echo("\n".join([*stage_table(bounds, wholes, count), "", *wait_table(wholes)]))


if __name__ == "__main__":
    throughput()
