"""A million files, and a hundred thousand photos: walking, re-running and labelling in bounded memory.

python benchmarks/scale.py walk                   files per second over 1,000,000 files
python benchmarks/scale.py rerun                  seconds and memory of a run over 1,000,000 unchanged rows
python benchmarks/scale.py label                  100,000 photos: the rate of the last tenth against the first
python benchmarks/scale.py label photos/          the same with links to your own
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import click
import pyarrow as pa
from process_tree import roles, tree_pss_bytes, usage_of
from sample_photos import make_folder, source_photos

from models.cache import ensure_artifact
from pipeline.records import FileRef, Row
from pipeline.sources.walk import WalkCounts, WalkRules, walk
from pipeline.tables.schema import to_batch
from pipeline.tables.writer import export

_FILES_PER_FOLDER = 1000
_ROWS_PER_BATCH = 8192
_TOP_K = 3
_MEGAPIXELS = 0.19


@click.group()
def scale() -> None:
    """Measure which costs grow with the number of files."""


@scale.command("walk")
@click.option("--files", default=1_000_000, show_default=True)
@click.option("--runs", default=3, show_default=True)
def measure_walk(files: int, runs: int) -> None:
    """Walk a tree of empty files several times; the first run fills the kernel's caches."""
    with tempfile.TemporaryDirectory() as scratch:
        _make_files(Path(scratch), files)
        for _ in range(runs):
            began_s = time.perf_counter()
            found = sum(1 for _ in walk(Path(scratch), WalkRules(), WalkCounts()))
            elapsed_s = time.perf_counter() - began_s
            click.echo(f"walk: {found} files in {elapsed_s:.1f} s, {found / elapsed_s:,.0f} files/s")


@scale.command("rerun")
@click.option("--files", default=1_000_000, show_default=True)
@click.option("--suffix", type=click.Choice([".parquet", ".csv"]), default=".parquet", show_default=True)
@click.option("-m", "--model", default="efficientnet_lite0", show_default=True)
def measure_rerun(files: int, suffix: str, model: str) -> None:
    """Run label-dir over a tree whose every file has an unchanged row."""
    model_id = ensure_artifact(model, click.echo).model_id
    with tempfile.TemporaryDirectory() as scratch:
        photos = Path(scratch) / "photos"
        _make_files(photos, files)
        out = Path(scratch) / f"out{suffix}"
        export(_rows_of(photos, model_id), out, _TOP_K)
        command = [str(Path(sys.executable).with_name("label-dir")), "-m", model, str(photos), str(out)]
        began_s = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        elapsed_s = time.perf_counter() - began_s
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    click.echo(f"re-run over {files} unchanged rows: {elapsed_s:.1f} s, at most {peak_mb:.0f} MB resident")
    click.echo(done.stderr.strip())


@scale.command("label")
@click.argument("photos", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--count", default=100_000, show_default=True)
@click.option("-m", "--model", default="efficientnet_lite0", show_default=True)
def measure_label(photos: Path | None, count: int, model: str) -> None:
    """Label links to photos; print rate, CPU time and memory of the whole process tree for each tenth of the run.

    Other work on the machine changes the rate. The CPU time shows whether the run itself became slower.
    """
    from pipeline.planning.plan import Settings, plan_for
    from pipeline.run import run
    from pipeline.run_request import Hooks, RunRequest
    from pipeline.system.cpus import this_machine

    marks: list[tuple[float, float, int]] = []
    seen = 0

    def mark(*_: object) -> None:
        cpu_s = sum(usage_of(pid).cpu_s for pid in roles(os.getpid()))
        marks.append((time.perf_counter(), cpu_s, tree_pss_bytes(os.getpid())))

    def take(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen % (count // 10) == 0:
            mark()

    artifact = ensure_artifact(model, click.echo)
    with tempfile.TemporaryDirectory() as scratch:
        size = _MEGAPIXELS if photos is None else None
        folder = make_folder(Path(scratch) / "photos", source_photos(photos), count, size)
        plan = plan_for(this_machine(), Settings())
        run(RunRequest(folder, Path(scratch) / "out.parquet", artifact, plan), Hooks(mark, take))
    rates, cpu_ms = [], []
    for tenth, ((began_s, cpu_before_s, _), (ended_s, cpu_s, pss)) in enumerate(pairwise(marks), start=1):
        rates.append(count // 10 / (ended_s - began_s))
        cpu_ms.append((cpu_s - cpu_before_s) / (count // 10) * 1000)
        click.echo(f"tenth {tenth:2}: {rates[-1]:7.1f} photos/s, {cpu_ms[-1]:6.2f} CPU ms a photo, {pss / 1e6:6.0f} MB")
    click.echo(f"last tenth's rate against the first's: {rates[-1] / rates[0]:.3f}")
    click.echo(f"last tenth's photos per CPU second against the first's: {cpu_ms[0] / cpu_ms[-1]:.3f}")


def _make_files(root: Path, count: int) -> None:
    for number in range(count):
        folder = root / f"{number // _FILES_PER_FOLDER:05d}"
        if number % _FILES_PER_FOLDER == 0:
            folder.mkdir(parents=True)
        os.close(os.open(f"{folder}/{number:07d}.jpg", os.O_CREAT | os.O_WRONLY))


def _rows_of(photos: Path, model_id: str) -> Iterator[pa.RecordBatch]:
    refs = walk(photos, WalkRules(), WalkCounts())
    while batch := [_row(ref, model_id) for ref in islice(refs, _ROWS_PER_BATCH)]:
        yield to_batch(batch, _TOP_K)


def _row(ref: FileRef, model_id: str) -> Row:
    labels = ("tabby", "tiger cat", "Egyptian cat")
    digest = f"{hash(ref.name) & 0xFFFFFFFFFFFFFFFF:064x}"
    cells = (640, 480, ref.size_bytes, ref.mtime_us, digest, model_id, time.time_ns() // 1000)
    return Row(ref.name, None, labels, (0.5, 0.3, 0.1), *cells)


if __name__ == "__main__":
    scale()
