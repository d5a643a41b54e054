"""`make demo`: label the photos inside scikit-image's wheel and print the table."""

from __future__ import annotations

import subprocess
import sys
from importlib import resources
from pathlib import Path

import click

from jobs.cli.standard_streams import print_text
from pipeline.tables.arrow import pq

_PHOTOS = (
    "astronaut.png",
    "camera.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "rocket.jpg",
)


@click.command()
@click.argument("out_folder", type=click.Path(path_type=Path))
def demo(out_folder: Path) -> None:
    """Label scikit-image's photos into OUT_FOLDER/labels.parquet and print the table."""
    out_folder.mkdir(parents=True, exist_ok=True)
    out = out_folder / "labels.parquet"
    with resources.as_file(resources.files("skimage") / "data") as photos:
        chosen = [argument for name in _PHOTOS for argument in ("--include", name)]
        command = [str(Path(sys.executable).with_name("label-dir")), *chosen, str(photos), str(out)]
        code = subprocess.run(command, check=False).returncode
    if code:
        sys.exit(code)
    for row in pq.read_table(out).to_pylist():
        labels = ", ".join(f"{row[f'label_{rank}']} {row[f'prob_{rank}']:.0%}" for rank in (1, 2, 3))
        print_text(f"{row['file_name']:24} {labels}")
    print_text(f"\nThe table is {out}: read it with pandas, DuckDB, polars or a spreadsheet.")


if __name__ == "__main__":
    demo()
