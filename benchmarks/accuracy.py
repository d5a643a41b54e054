"""Top-1 and Top-3 accuracy of `label-dir` on photos of known labels, and whether every plan gives the same labels.

    python benchmarks/accuracy.py photos/ photos.csv

The CSV has the columns `file_name` and `category`; the categories are labels of the model.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import pyarrow.parquet as pq

PLANS = ((), ("-b", "1", "-j", "1", "--pool", "1"), ("-b", "7", "-j", "3"), ("--pool", "1", "--threads", "2"))


def labels(photos: Path, out: Path, options: tuple[str, ...]) -> dict[str, list[str]]:
    """The labels of each file, most likely first, by the real command."""
    command = [str(Path(sys.executable).with_name("label-dir")), "-q", *options, str(photos), str(out)]
    subprocess.run(command, check=True)
    return {
        row["file_name"]: [row["label_1"], row["label_2"], row["label_3"]] for row in pq.read_table(out).to_pylist()
    }


@click.command()
@click.argument("photos", type=click.Path(exists=True, path_type=Path))
@click.argument("truth", type=click.Path(exists=True, path_type=Path))
@click.option("-m", "--model", default="efficientnet_lite0", show_default=True)
def accuracy(photos: Path, truth: Path, model: str) -> None:
    """Label PHOTOS under four plans and compare the labels with the categories of TRUTH."""
    with truth.open(newline="", encoding="utf-8") as stream:
        known = {row["file_name"]: row["category"] for row in csv.DictReader(stream)}
    with tempfile.TemporaryDirectory() as folder:
        results = [
            labels(photos, Path(folder) / f"{number}.parquet", ("-m", model, *plan))
            for number, plan in enumerate(PLANS)
        ]
    found = {name: best for name, best in results[0].items() if name in known}
    first = sum(known[name] == best[0] for name, best in found.items())
    third = sum(known[name] in best for name, best in found.items())
    click.echo(f"{len(results[0])} rows, {len(found)} with a known label")
    click.echo(f"Top-1 {first / len(found):.4f}  Top-3 {third / len(found):.4f}")
    for plan, result in zip(PLANS[1:], results[1:], strict=True):
        click.echo(f"{' '.join(plan)}: {'the same ids' if result == results[0] else 'OTHER IDS'}")


if __name__ == "__main__":
    accuracy()
