"""Photos in an object store against the same photos in a folder, in turn, and how fast a store's keys are listed.

python benchmarks/object_storage.py label photos/           a GET takes 0, 20 and 100 ms longer; rate and memory
python benchmarks/object_storage.py listing                 1,000,000 keys in ready-made pages

The store is nginx over the folder itself, on the same CPUs (static_store.py says what that needs).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import click
from process_tree import PeakMemory
from sample_photos import make_folder, source_photos
from static_store import BUCKET, serving, write_pages

_DELAYS_MS = (0, 20, 100)
_URL = f"s3://{BUCKET}/photos/"
_MEGAPIXELS = 0.19
_ONE_RUN = """
import sys, time
from pathlib import Path
from models.cache import ensure_artifact
from pipeline.planning.plan import Settings, plan_for
from pipeline.run import Hooks, RunRequest, run
from pipeline.sources.store_url import parsed_place
from pipeline.system.cpus import this_machine

times = []
artifact = ensure_artifact(sys.argv[3], lambda text: None)
request = RunRequest(parsed_place(sys.argv[1]), Path(sys.argv[2]), artifact, plan_for(this_machine(), Settings()))
began = time.perf_counter()
summary = run(request, Hooks(on_row=lambda *_: times.append(time.perf_counter())))
ended = time.perf_counter()
assert summary.labelled == len(times) and not summary.failed, summary
print((len(times) - 1) / (times[-1] - times[0]), ended - began)
"""
_LISTING = """
import re, sys, time
from pathlib import Path
from pipeline.sources.store_url import parsed_place
from pipeline.sources.stored_photos import source_at
from pipeline.sources.walk import WalkCounts, WalkRules

def peak_kb():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

before_kb = peak_kb()
began, began_cpu = time.perf_counter(), time.process_time()
found = sum(1 for _ in source_at(parsed_place(sys.argv[1])).list(WalkRules(), WalkCounts()))
print(found, time.perf_counter() - began, time.process_time() - began_cpu)
print((peak_kb() - before_kb) / 1024, peak_kb() / 1024)
"""


@click.group()
def object_storage() -> None:
    """Measure what a store costs."""


@object_storage.command("label")
@click.argument("photos", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--count", default=2000, show_default=True)
@click.option("--runs", default=5, show_default=True)
@click.option("-m", "--model", default="efficientnet_lite0", show_default=True)
def measure_labelling(photos: Path | None, count: int, runs: int, model: str) -> None:
    """Label links to photos from the folder and from stores in turn; the ratios are medians of the runs' ratios."""
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        size = _MEGAPIXELS if photos is None else None
        folder = make_folder(home / BUCKET / "photos", source_photos(photos), count, size)
        write_pages(home, ((f"photos/{path.name}", path.stat().st_size) for path in sorted(folder.iterdir())))
        with serving(home, [delay_ms / 1000 for delay_ms in _DELAYS_MS]) as stores:
            places: dict[str, tuple[str, Mapping[str, str]]] = {"a folder": (str(folder), {})}
            for delay_ms, store in zip(_DELAYS_MS, stores, strict=True):
                places[f"s3 +{delay_ms} ms"] = (_URL, store)
            _show_rates(places, home, model, runs)
            peaks = {name: _peak_mb(*place, home, model) for name, place in places.items()}
    for name, peak_mb in peaks.items():
        click.echo(f"{name:12} {peak_mb:6.0f} MB, {peak_mb - peaks['a folder']:+.0f}")


def _show_rates(places: Mapping[str, tuple[str, Mapping[str, str]]], home: Path, model: str, runs: int) -> None:
    rates: defaultdict[str, list[float]] = defaultdict(list)
    totals: defaultdict[str, list[float]] = defaultdict(list)
    for number in range(runs):
        # Each goes first in turn, so that a machine that slows down does not favour one of them.
        order = [*places][number % len(places) :] + [*places][: number % len(places)]
        for name in order:
            rate, seconds = _figures(_command(places[name][0], home, model), places[name][1])
            rates[name].append(rate)
            totals[name].append(seconds)
    for name in places:
        ratios = sorted(ours / local for ours, local in zip(rates[name], rates["a folder"], strict=True))
        whole = statistics.median(local / ours for ours, local in zip(totals[name], totals["a folder"], strict=True))
        click.echo(
            f"{name:12} {statistics.median(rates[name]):6.1f} photos/s, ratio {statistics.median(ratios):.3f} "
            f"({ratios[0]:.3f} to {ratios[-1]:.3f}), with start and end {whole:.3f}"
        )


def _peak_mb(place: str, store: Mapping[str, str], home: Path, model: str) -> float:
    command, environment = _command(place, home, model), {**os.environ, **store}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    with process, PeakMemory(process.pid) as memory:
        process.wait()
    return memory.peak_bytes / 1e6


def _command(place: str, home: Path, model: str) -> list[str]:
    out = home / "out.parquet"
    out.unlink(missing_ok=True)
    return [sys.executable, "-c", _ONE_RUN, place, str(out), model]


def _figures(command: list[str], store: Mapping[str, str]) -> list[float]:
    """Run a program that finds a store by its environment, and return the numbers that it prints."""
    environment = {**os.environ, **store}
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return [float(word) for word in done.stdout.split()]


@object_storage.command("listing")
@click.option("--keys", default=1_000_000, show_default=True)
@click.option("--runs", default=5, show_default=True)
def measure_listing(keys: int, runs: int) -> None:
    """List keys below a prefix as a run does, in a process of its own each time."""
    rates, added, peaks = [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        write_pages(home, ((f"photos/{number // 1000:05d}/{number:09d}.jpg", 50_000) for number in range(keys)))
        with serving(home, [0.0]) as [store]:
            for _ in range(runs):
                command = [sys.executable, "-c", _LISTING, _URL]
                found, seconds, cpu_s, added_mb, peak_mb = _figures(command, store)
                assert found == keys
                rates.append(keys / seconds)
                added.append(added_mb)
                peaks.append(peak_mb)
                click.echo(f"{keys} keys in {seconds:.2f} s, {cpu_s:.2f} s of CPU")
    click.echo(
        f"listing: {statistics.median(rates):,.0f} keys/s (median of {runs}), {max(added):.0f} MB more, "
        f"{max(peaks):.0f} MB in all"
    )


if __name__ == "__main__":
    object_storage()
