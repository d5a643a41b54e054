"""How fast label-merge is, and in how much memory: parts of ranges, and tables whose names interleave.

python benchmarks/merging.py --rows 1000000
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np

from pipeline.tables.arrow import pa
from pipeline.tables.schema import schema
from pipeline.tables.writer import export

_ROWS_PER_PART = 20_000
_PROGRAM = """
import resource, sys, time
from pathlib import Path
from jobs.scaling.merge_tables import merge_tables
usage = resource.getrusage(resource.RUSAGE_SELF)
start_s, began = usage.ru_utime + usage.ru_stime, time.perf_counter()
merged = merge_tables([Path(place) for place in sys.argv[2:]], Path(sys.argv[1]))
usage = resource.getrusage(resource.RUSAGE_SELF)
print(merged.rows, time.perf_counter() - began, usage.ru_utime + usage.ru_stime - start_s, usage.ru_maxrss / 1024)
"""


def rows_of(numbers: Sequence[int]) -> pa.RecordBatch:
    """Return rows as label-dir writes them, named by their numbers."""
    count = len(numbers)
    chance = np.random.default_rng(numbers[0])
    words = pa.array([f"label number {number}" for number in range(1000)])
    table_schema = schema(3)
    cells: dict[str, pa.Array] = {  # type: ignore[type-arg]  # of many types
        "file_name": pa.array([f"{number // 1000:06d}/{number:09d}.jpg" for number in numbers]),
        "status": pa.array(["ok"] * count),
        "error": pa.nulls(count, pa.string()),
        "sha256": pa.array([hashlib.sha256(str(number).encode()).hexdigest() for number in numbers]),
        "model": pa.array(["efficientnet_lite0@0123456789ab"] * count),
    }
    for rank in (1, 2, 3):
        cells[f"label_{rank}"] = words.take(pa.array(chance.integers(0, 1000, count, np.int32)))
        cells[f"prob_{rank}"] = pa.array(chance.random(count, np.float32))
    for name in ("width", "height", "size_bytes", "mtime", "labelled_at"):
        values = chance.integers(1, 1 << 30, count)
        cells[name] = pa.array(values).cast(table_schema.field(name).type)
    return pa.RecordBatch.from_arrays([cells[field.name] for field in table_schema], schema=table_schema)


@click.command()
@click.option("--rows", default=1_000_000, show_default=True)
@click.option("--tables", default=4, show_default=True, help="How many tables interleave.")
def main(rows: int, tables: int) -> None:
    """Write both kinds of tables, merge each in a process of its own, and print rows/s and the peak of memory."""
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        (home / "parts").mkdir()
        for number, begin in enumerate(range(0, rows, _ROWS_PER_PART)):
            part = rows_of(range(begin, min(begin + _ROWS_PER_PART, rows)))
            export([part], home / f"parts/part-{number:05d}.parquet", 3)
        for number in range(tables):
            export([rows_of(range(number, rows, tables))], home / f"{number}.parquet", 3)
        interleaved = [str(home / f"{number}.parquet") for number in range(tables)]
        for name, places in {"ranges": [str(home / "parts")], "interleaved": interleaved}.items():
            command = [sys.executable, "-c", _PROGRAM, str(home / f"{name}.out.parquet"), *places]
            done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
            merged, seconds, cpu_s, megabytes = map(float, done.stdout.split())
            rates = f"{merged / seconds:10.0f} rows/s, {merged / cpu_s:10.0f} rows per CPU second"
            click.echo(f"{name:12} {merged:10.0f} rows {rates}, {megabytes:6.0f} MB")


if __name__ == "__main__":
    main()
