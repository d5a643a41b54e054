"""Our DataLoader against torch's: seconds and peak memory of the whole command, by number of photos.

    python benchmarks/loaders.py                          20 and 1,000 of the photos that scikit-image ships
    python benchmarks/loaders.py --count 20 photos/       20 of your own

The two take turns, every second time in the opposite order. Memory is the proportional set size of all processes, and
is sampled in runs of its own, because reading it holds the processes up.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
from process_tree import PeakMemory
from sample_photos import make_folder, source_photos

from pipeline.loading.loader_kind import LoaderKind

_MEGAPIXELS = 0.19


def seconds(command: list[str]) -> float:
    """Run a command and return the seconds it took."""
    began_s = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began_s


def peak_mb(command: list[str]) -> float:
    """Run a command and return the peak memory of all its processes in MB."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with PeakMemory(process.pid) as memory:
        process.wait()
    return memory.peak_bytes / 1e6


@click.command()
@click.argument("photos", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--count", "counts", multiple=True, type=int, default=(20, 1000), show_default=True, help="Photos.")
@click.option("--runs", default=5, show_default=True, help="Timed runs of each loader.")
@click.option("--memory-runs", default=3, show_default=True, help="Runs of each loader for its memory.")
def loaders(photos: Path | None, counts: tuple[int, ...], runs: int, memory_runs: int) -> None:
    """Time both loaders on PHOTOS, or on the photos that scikit-image ships."""
    with tempfile.TemporaryDirectory() as scratch:
        for count in counts:
            size = _MEGAPIXELS if photos is None else None
            folder = make_folder(Path(scratch) / str(count), source_photos(photos), count, size)
            label = [str(Path(sys.executable).with_name("label-dir")), "--fresh", "--quiet"]
            commands = {kind: [*label, "--loader", kind, str(folder), f"{scratch}/out.parquet"] for kind in LoaderKind}
            for command in commands.values():
                seconds(command)
            taken_s: dict[LoaderKind, list[float]] = {kind: [] for kind in LoaderKind}
            used_mb: dict[LoaderKind, list[float]] = {kind: [] for kind in LoaderKind}
            for turn in range(max(runs, memory_runs)):
                for kind in reversed(LoaderKind) if turn % 2 else LoaderKind:
                    if turn < runs:
                        taken_s[kind].append(seconds(commands[kind]))
                    if turn < memory_runs:
                        used_mb[kind].append(peak_mb(commands[kind]))
            ours_s = statistics.median(taken_s[LoaderKind.PIPES])
            for kind in LoaderKind:
                median_s, median_mb = statistics.median(taken_s[kind]), statistics.median(used_mb[kind])
                click.echo(f"{count} photos, {kind}: {median_s:.2f} s ({median_s / ours_s:.2f}), {median_mb:.0f} MB")
    click.echo(f"medians of {runs} runs in turn on {os.cpu_count()} CPUs")


if __name__ == "__main__":
    loaders()
