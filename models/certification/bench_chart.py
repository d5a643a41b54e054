"""The rows of a bench as a bar chart. Only this file imports matplotlib, which the extra `bench` brings."""

from __future__ import annotations

import io
from pathlib import Path

from models.certification.bench import BATCH_SIZE, BenchRow
from models.errors import UsageError, output_errors
from models.system.atomic_file import write_atomically

INT8_COLOUR, FLOAT_COLOUR = "#2a7f62", "#8c96a3"


def write_chart(path: Path, title: str, rows: list[BenchRow]) -> None:
    """Write a PNG of the images/s at one thread of every engine that ran, the fastest at the top.

    Raises UsageError without matplotlib, and OutputError.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("a chart needs matplotlib: pip install 'label-dir[bench]'") from error
    ran = sorted((row for row in rows if row.images_per_s), key=lambda row: row.images_per_s[0])
    figure = Figure(figsize=(9, 0.42 * len(ran) + 1.4), layout="constrained")
    axes = figure.subplots()
    colours = [
        INT8_COLOUR if row.engine in ("onnxruntime", "openvino") or "int8" in row.engine else FLOAT_COLOUR
        for row in ran
    ]
    bars = axes.barh([row.engine for row in ran], [row.images_per_s[0] for row in ran], color=colours)
    texts = [
        f"{row.images_per_s[0]:.0f}/s, {row.file_megabytes:.1f} MB, {row.resident_megabytes:.0f} MB" for row in ran
    ]
    axes.bar_label(bars, texts, padding=4, fontsize=9)
    axes.margins(x=0.32)
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel(f"images/s, one thread, batch {BATCH_SIZE} (int8 green); file and resident size beside")
    axes.spines[["top", "right"]].set_visible(False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=120)
    with output_errors(path):
        write_atomically(path, stream.getvalue())
