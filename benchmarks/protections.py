"""The cost of the protections: images/s and CPU seconds of the real command with and without them, in turn.

    python benchmarks/protections.py                the photos that scikit-image ships
    python benchmarks/protections.py photos/        your own

Without protections, files are read once and unchecked, processes are not monitored and have no memory limit, and no
file is synced to the disk. Hashing stays, because the table has a column for it. The order changes from pair to pair;
the result is the median of the pairs' ratios. On a machine with other work, compare the CPU ratio.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import click
from sample_photos import make_folder, source_photos

_PR_SET_CHILD_SUBREAPER = 36
_UNPROTECTED = Path(__file__).parent / "unprotected"


@click.command()
@click.argument("photos", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--count", default=800, show_default=True, help="Photos a run.")
@click.option("--pairs", default=5, show_default=True, help="Runs of each.")
def main(photos: Path | None, count: int, pairs: int) -> None:
    """Print images/s with and without protections, and the ratio."""
    with tempfile.TemporaryDirectory() as home:
        folder = make_folder(Path(home) / "photos", source_photos(photos), count, None)
        # The fork server ends after the command. As a child of this process, its CPU time is counted too.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        _run(folder, Path(home), protected=True)
        ratios, cpu_ratios = [], []
        for pair in range(pairs):
            order = (True, False) if pair % 2 else (False, True)
            found = {protected: _run(folder, Path(home), protected) for protected in order}
            (rate, cpu_s), (bare_rate, bare_cpu_s) = found[True], found[False]
            ratios.append(rate / bare_rate)
            cpu_ratios.append(bare_cpu_s / cpu_s)
            print(f"with    {rate:7.1f} images/s {cpu_s:7.2f} CPU s", flush=True)
            print(f"without {bare_rate:7.1f} images/s {bare_cpu_s:7.2f} CPU s", flush=True)
        print(f"{pairs} pairs of {count} photos: median ratio of images/s {statistics.median(ratios):.3f}")
        print(f"median ratio of work per CPU second, start included {statistics.median(cpu_ratios):.3f}")


def _run(folder: Path, home: Path, protected: bool) -> tuple[float, float]:
    """Images/s of the command, and the CPU seconds of all its processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": "" if protected else str(_UNPROTECTED)}
    command = [str(Path(sys.executable).parent / "label-dir"), "--fresh", str(folder), str(home / "out.parquet")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    rate = re.search(r"\(([\d.]+) images/s\)", done.stderr)
    assert rate is not None, done.stderr
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return float(rate[1]), after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
