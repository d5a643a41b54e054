"""Two checkouts of this project side by side: do they make the same table, and are they equally fast?

    python benchmarks/two_checkouts.py OLD NEW photos/             both questions
    python benchmarks/two_checkouts.py OLD NEW photos/ --pairs 0   the tables only

Tables: of PHOTOS, damaged photos and odd names; labelled fresh, and brought up to date from the same old table after
photos were moved, copied, changed and removed. Every byte of the columns must be equal, `labelled_at` apart, and every
metadata entry of the old table.
Speed: both take turns, and the order changes from pair to pair; the median of the pairs' ratios counts, and the
scatter says how much to believe. On a machine with other work, believe the ratio of CPU seconds.
Both run with the interpreter that runs this script. The model is built by each, must be the same, and is then shared.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import click
from checkout import Checkout, label
from process_tree import PeakMemory
from same_table import differences
from sample_photos import make_folder, source_photos

_PR_SET_CHILD_SUBREAPER = 36
_BUILD = "from models.cache import ensure_artifact; print(ensure_artifact({!r}, lambda text: None).path)"
_START_UP_PHOTOS = 20
_TOLERANCE = 0.02
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path, resolve_path=True)


@dataclass(frozen=True, slots=True)
class Speed:
    """What one checkout did in one turn; start-up is the time of 20 photos, and images/s is of the photos beyond."""

    images_per_s: float
    cpu_s: float
    start_up_s: float
    peak_megabytes: float


def measured(checkout: Checkout, model: str, many: Path, few: Path, home: Path) -> Speed:
    """Run one checkout on many photos, on few, and on many once more while its memory is sampled."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    many_s = seconds(checkout, model, many, home)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    few_s = seconds(checkout, model, few, home)
    process = checkout.label_dir("--fresh", "-m", model, many, home / "speed.parquet")
    with PeakMemory(process.pid) as memory:
        process.communicate()
    more_photos = len(list(many.iterdir())) - len(list(few.iterdir()))
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Speed(more_photos / (many_s - few_s), cpu_s, few_s, memory.peak_bytes / 1e6)


def seconds(checkout: Checkout, model: str, folder: Path, home: Path) -> float:
    """Label a folder and return the seconds that a user waits for."""
    began_s = time.perf_counter()
    label(checkout, "--fresh", "-m", model, folder, home / "speed.parquet")
    return time.perf_counter() - began_s


def ratio_lines(pairs: list[tuple[Speed, Speed]]) -> Iterator[str]:
    """Yield a line for each figure: medians of both, and the ratio new to old with its scatter."""
    for figure in (field.name for field in fields(Speed)):
        values = [[getattr(speed, figure) for speed in pair] for pair in pairs]
        ratios = sorted(new / old for old, new in values)
        ratio = statistics.median(ratios)
        old, new = (statistics.median(column) for column in zip(*values, strict=True))
        verdict = "within" if abs(ratio - 1) <= _TOLERANCE else "NOT within"
        scatter = f"{ratios[0]:.3f} to {ratios[-1]:.3f}"
        yield f"{figure:14} {old:14.2f} -> {new:14.2f}  ratio {ratio:.3f} ({scatter}), {verdict} {_TOLERANCE:.0%}"


@click.command()
@click.argument("old", type=_FOLDER)
@click.argument("new", type=_FOLDER)
@click.argument("photos", required=False, type=_FOLDER)
@click.option("--count", default=800, show_default=True, help="Photos a run, of which images/s are taken.")
@click.option("--pairs", default=9, show_default=True, help="Turns of each for the speed; 0 compares tables only.")
@click.option("--tables/--no-tables", default=True, help="Compare the tables.  [default: yes]")
@click.option("-m", "--model", default="efficientnet_lite0", show_default=True)
def main(old: Path, new: Path, photos: Path | None, count: int, pairs: int, tables: bool, model: str) -> None:
    """Compare the checkouts OLD and NEW on PHOTOS, or on the photos that scikit-image ships."""
    # Python looks for packages in the working directory first, and that may be a checkout.
    with tempfile.TemporaryDirectory() as scratch, contextlib.chdir(scratch):
        home = Path(scratch)
        checkouts = (Checkout("old", old, home), Checkout("new", new, home))
        models = [Path(checkout.python(_BUILD.format(model))) for checkout in checkouts]
        found = [] if models[0].name == models[1].name else [f"models: {models[0].name} and {models[1].name}"]
        shared = home / models[0].name
        shutil.copy(models[0], shared)
        if tables:
            found += differences(*checkouts, str(shared), source_photos(photos), home)
            click.echo("\n".join(found) if found else "same tables, byte for byte except labelled_at")
        if pairs:
            compare_speed(checkouts, str(shared), photos, count, pairs, home)
    sys.exit(1 if found else 0)


def compare_speed(
    checkouts: tuple[Checkout, Checkout], model: str, photos: Path | None, count: int, pairs: int, home: Path
) -> None:
    """Let both take turns and print the ratios."""
    # The fork server outlives the command by a moment; as a child of this process, its CPU time is counted too.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    many = make_folder(home / "many", source_photos(photos), count, None)
    few = make_folder(home / "few", source_photos(photos), _START_UP_PHOTOS, None)
    for checkout in checkouts:
        seconds(checkout, model, few, home)
    taken: list[tuple[Speed, Speed]] = []
    for number in range(pairs):
        turn = {
            checkout.name: measured(checkout, model, many, few, home) for checkout in checkouts[:: 1 - 2 * (number % 2)]
        }
        taken.append((turn["old"], turn["new"]))
        click.echo(f"{number + 1}: {turn['old']} {turn['new']}")
    click.echo("\n".join(ratio_lines(taken)))


if __name__ == "__main__":
    main()
