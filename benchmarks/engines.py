"""`label-dir --engine auto` against onnxruntime alone: whole commands, in turn, on this CPU.

    python benchmarks/engines.py                                    2,000 photos, Lite0 and ResNet-18 (random weights)
    python benchmarks/engines.py photos/ --count 400 --pairs 3 -m efficientnet_lite0

The order changes from pair to pair; the median of the pairs' ratios counts, and the scatter says how much to believe.
On a machine with other work, believe the ratio of CPU seconds.
"""

from __future__ import annotations

import ctypes
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import click
from results import write_result
from sample_photos import make_folder, source_photos

from models.cache import RANDOM_SUFFIX
from models.engines import installed_versions
from models.system.cpu_kind import this_cpu

_PR_SET_CHILD_SUBREAPER = 36
_ENGINES = ("onnxruntime", "auto")
_PREPARE = """
import sys
from jobs.workshop.bench import random_model
from models.cache import ensure_artifact
name = random_model(sys.argv[1], print) if sys.argv[2] else sys.argv[1]
print(ensure_artifact(name, print, "auto").engine)
"""


def run_once(model: str, engine: str, photos: Path, out: Path) -> tuple[float, float]:
    """Seconds of a fresh run as seen from the shell, and CPU seconds of all its processes."""
    options = ["-q", "--fresh", "-m", model, "--engine", engine]
    command = [sys.executable, "-m", "jobs.label_dir", *options, str(photos), str(out)]
    before, began_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True)
    wall_s = time.perf_counter() - began_s
    # The fork server outlives the command by a moment; as a child of this process, its CPU time is counted too.
    with suppress(ChildProcessError):
        while True:
            os.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def prepared(model: str) -> str:
    """Build a model and measure its engines; return the engine that auto runs. In a process of its own: what that
    starts would be a child of this one for as long as this one lives."""
    is_random = "random" if model.endswith(RANDOM_SUFFIX) else ""
    command = [sys.executable, "-c", _PREPARE, model.removesuffix(RANDOM_SUFFIX), is_random]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines()[-1]


def compared(model: str, photos: Path, pairs: int, scratch: Path) -> dict[str, object]:
    """The ratios onnxruntime / auto of all pairs, in seconds and in CPU seconds, and the engine that auto ran."""
    # Models are built and engines measured before anything is timed.
    chosen = prepared(model)
    for engine in _ENGINES:
        run_once(model, engine, photos, scratch / "warm-up.parquet")
    seen: dict[str, list[tuple[float, float]]] = {engine: [] for engine in _ENGINES}
    for number in range(pairs):
        for engine in _ENGINES[:: 1 - 2 * (number % 2)]:
            seen[engine].append(run_once(model, engine, photos, scratch / f"{engine}.parquet"))
    figures: dict[str, object] = {"engine": chosen, "pairs": pairs}
    for column, name in enumerate(("seconds", "cpu_seconds")):
        taken = {engine: [run[column] for run in runs] for engine, runs in seen.items()}
        ratios = sorted(alone / auto for alone, auto in zip(*(taken[engine] for engine in _ENGINES), strict=True))
        figures[name] = {engine: statistics.median(values) for engine, values in taken.items()}
        figures[f"{name}_ratio"] = {"median": statistics.median(ratios), "lowest": ratios[0], "highest": ratios[-1]}
        click.echo(
            f"{model} by {chosen}, {name}: onnxruntime / auto = {statistics.median(ratios):.3f} "
            f"({ratios[0]:.3f} to {ratios[-1]:.3f}), {figures[name]}"
        )
    return figures


@click.command()
@click.argument("photos", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--count", default=2000, show_default=True, help="Photos a run.")
@click.option("--pairs", default=7, show_default=True, help="Turns of each.")
@click.option("-m", "--model", "models", multiple=True, default=("efficientnet_lite0", "resnet18-random"))
def engines(photos: Path | None, count: int, pairs: int, models: tuple[str, ...]) -> None:
    """Compare on PHOTOS, or on the photos that scikit-image ships; NAME-random has random weights."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    click.echo(f"{this_cpu()}, {count} photos, {installed_versions(['onnxruntime', 'openvino'])}")
    figures: dict[str, object] = {"photos": count}
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_folder(Path(scratch) / "photos", source_photos(photos), count, 0.19 if photos is None else None)
        for model in models:
            figures[model] = compared(model, folder, pairs, Path(scratch))
    click.echo(f"-> {write_result('engines', figures)}")


if __name__ == "__main__":
    engines()
