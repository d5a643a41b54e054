"""Waiting times: the first run ever, a few photos with a warm cache, a bare loop over the same file, `import torch`.

    python benchmarks/start_up.py                 twenty photos
    python benchmarks/start_up.py --count 2

The warm run, the loop of peer_loops.py over the same int8 file, and the import of torch take turns; medians and ratios
of the same turn are printed.
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
from sample_photos import make_folder, source_photos

_MEGAPIXELS = 0.19


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """Seconds of a command as seen from the shell."""
    began_s = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - began_s


@click.command()
@click.option("--count", default=20, show_default=True, help="Photos.")
@click.option("--runs", default=7, show_default=True, help="Runs of each, alternating.")
def start_up(count: int, runs: int) -> None:
    """Time a few photos against a bare loop and against `import torch, torchvision`."""
    with tempfile.TemporaryDirectory() as scratch:
        photos = make_folder(Path(scratch) / "photos", source_photos(None), count, _MEGAPIXELS)
        environment = {**os.environ, "XDG_CACHE_HOME": str(Path(scratch) / "cache")}
        label = [str(Path(sys.executable).with_name("label-dir")), "--fresh", str(photos), f"{scratch}/out.parquet"]
        click.echo(f"first run ever, model built: {seconds(label, environment):.1f} s")
        imports = [sys.executable, "-c", "import torch, torchvision"]
        (int8,) = Path(scratch, "cache").rglob("efficientnet_lite0-int8-*.onnx")
        loops = str(Path(__file__).with_name("peer_loops.py"))
        loop = [sys.executable, loops, "plain onnxruntime", str(photos), f"{scratch}/loop.csv", str(int8)]
        times = [[seconds(command, environment) for command in (label, loop, imports)] for _ in range(runs)]
    warm_s, loop_s, import_s = (statistics.median(column) for column in zip(*times, strict=True))
    ratios = sorted(warm / bare for warm, bare, _ in times)
    click.echo(f"{count} photos, warm cache: {warm_s:.2f} s; import torch, torchvision: {import_s:.2f} s")
    click.echo(f"ratio {warm_s / import_s:.2f} (medians of {runs})")
    scatter = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
    click.echo(f"a bare onnxruntime loop: {loop_s:.2f} s; label-dir / loop {statistics.median(ratios):.2f} ({scatter})")


if __name__ == "__main__":
    start_up()
