"""What the protections cost: images/s of the real command with them and without, in turn.

    python benchmarks/protections.py                the photos that scikit-image ships
    python benchmarks/protections.py photos/        your own

Without: files are read by name, once and unchecked; nobody watches the processes or knows what they are at; no bound of
memory; nothing is synced to the disk. Hashing stays, it is a column of the table. The order changes from pair to pair;
the median of the pairs' ratios is what counts.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import click
from sample_photos import make_folder, source_photos

_UNPROTECTED = Path(__file__).parent / "unprotected"


@click.command()
@click.argument("photos", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--count", default=800, show_default=True, help="Photos a run.")
@click.option("--pairs", default=5, show_default=True, help="How often each is run.")
def main(photos: Path | None, count: int, pairs: int) -> None:
    """Print images/s with and without protections, and the ratio."""
    with tempfile.TemporaryDirectory() as home:
        folder = make_folder(Path(home) / "photos", source_photos(photos), count, None)
        _images_per_s(folder, Path(home), protected=True)
        ratios = []
        for pair in range(pairs):
            order = (True, False) if pair % 2 else (False, True)
            rates = {protected: _images_per_s(folder, Path(home), protected) for protected in order}
            ratios.append(rates[True] / rates[False])
            print(
                f"with {rates[True]:7.1f} images/s   without {rates[False]:7.1f}   ratio {ratios[-1]:.3f}", flush=True
            )
        print(f"median ratio {statistics.median(ratios):.3f} ({pairs} pairs of {count} photos)")


def _images_per_s(folder: Path, home: Path, protected: bool) -> float:
    environment = {**os.environ, "PYTHONPATH": "" if protected else str(_UNPROTECTED)}
    command = [str(Path(sys.executable).parent / "label-dir"), "--fresh", str(folder), str(home / "out.parquet")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    rate = re.search(r"\(([\d.]+) images/s\)", done.stderr)
    assert rate is not None, done.stderr
    return float(rate[1])


if __name__ == "__main__":
    main()
