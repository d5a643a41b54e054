"""The picture of scaling_simulation.py: photos/s against nodes, and what limits them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from models.certification.bench_chart import FLOAT_COLOUR, INT8_COLOUR

# Nodes, photos a second, and the limits.
Point = tuple[int, float, tuple[str, ...]]


def curves_of(table: str) -> dict[str, list[Point]]:
    """Return the curves in the Markdown table of a simulation, three columns for each behind that of the nodes."""
    head, _, *lines = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines())
    curves: dict[str, list[Point]] = {}
    for at in range(1, len(head), 3):
        points = curves.setdefault(head[at].partition(":")[0], [])
        for cells in lines:
            limits = tuple(re.findall(r"([\w ]+) \(\d+%\)", cells[at + 2]))
            points.append((int(cells[0]), float(cells[at].replace(",", "")), tuple(limit.strip() for limit in limits)))
    return curves


def write_chart(path: Path, curves: Mapping[str, Sequence[Point]], node_rate: float, title: str) -> None:
    """Write the curves as a PNG, beside the line of a job that nothing but the CPUs of its nodes limits."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8.5, 4.6), layout="constrained")
    nodes = [count for count, _, _ in next(iter(curves.values()))]
    axes.plot(nodes, [count * node_rate for count in nodes], ":", color=FLOAT_COLOUR, label="CPUs alone")
    for (name, points), colour in zip(curves.items(), ("#b5542b", INT8_COLOUR), strict=True):
        axes.plot(nodes, [rate for _, rate, _ in points], "o-", color=colour, label=name)
        said: tuple[str, ...] = ()
        for count, rate, limits in points:
            # Where the limits change; the same words at each point would hide the curve.
            if limits != said:
                text, place = "\n".join(limits), (count, rate)
                axes.annotate(text, place, (5, -6), textcoords="offset points", va="top", fontsize=7, color=colour)
            said = limits
    axes.set(xscale="log", yscale="log", xlabel="nodes", ylabel="photos/s, listing and merge included")
    axes.set_xticks(nodes, [str(count) for count in nodes])
    axes.minorticks_off()
    axes.margins(x=0.14, y=0.2)
    axes.set_title(f"{title}: simulated from measured costs", fontsize=10, loc="left")
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)
