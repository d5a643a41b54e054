"""How many photos a second many machines label, and what limits them: measured costs, simulated machines.

    python benchmarks/scaling_simulation.py photos/

Costs are measured on this machine (scaling_costs.py); what no single machine shows are the assumptions below, which
`--help` lists as options. Of a job of `label-dir --shard` and `label-merge`, each event is simulated: the first
listing, the start of each node, its ranges one after the other, their GETs that share the limit of a prefix, their
publishing, the wait for the slowest node, and the merge.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist

import click
from merging import ROWS_PER_PART
from results import read_result, results_folder
from scaling_chart import curves_of, write_chart
from scaling_costs import Costs, measured

NODE_COUNTS = (1, 2, 4, 8, 16, 32, 64)
_KEYS_PER_PAGE = 1000
_TABLE = "scaling-table.md"
CPU, GETS, NETWORK = "CPU", "GETs of a prefix", "network of a node"
LISTING, MERGE, STRAGGLERS, RANGES = "first listing", "merge", "slowest node", "begin and end of ranges"


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What the simulation takes as given.

    A node's cores label as many times what one does as there are cores; node speeds are spread evenly over a normal
    distribution with the deviation `speed_spread`. With several prefixes, each is listed by a process of its own.
    """

    photos: int = 100_000_000
    cores: int = 16
    prefixes: int = 1
    gets_per_s: float = 5_500.0
    request_s: float = 0.05
    network_gbit_per_s: float = 10.0
    speed_spread: float = 0.1
    usd_per_million_gets: float = 0.40
    usd_per_core_hour: float = 0.02


@dataclass(frozen=True, slots=True)
class Outcome:
    """Photos a second of the whole job, its hours, and which share of the time each limit took, the largest first."""

    nodes: int
    photos_per_s: float
    hours: float
    shares: tuple[tuple[str, float], ...]

    @property
    def limits(self) -> list[tuple[str, float]]:
        """What took most of the time, and what took a tenth of it or more beside that."""
        return [self.shares[0], *(each for each in self.shares[1:3] if each[1] >= 0.1)]


@dataclass(slots=True)
class _Node:
    """A machine: ranges to do, photos/s of its CPU, and what is left of its phase, in seconds or, labelling, photos."""

    ranges: int
    cpu: float
    left: float
    is_labelling: bool = False
    rate: float = 1.0


def simulate(nodes: int, costs: Costs, given: Assumptions) -> Outcome:
    """Return how `nodes` machines share the photos of `given`."""
    spent: defaultdict[str, float] = defaultdict(float)
    ranges = math.ceil(given.photos / ROWS_PER_PART)
    speeds = [NormalDist(1, given.speed_spread).inv_cdf((number + 0.5) / nodes) for number in range(nodes)]
    machines = [
        _Node(
            ranges=len(range(number, ranges, nodes)),
            cpu=costs.photos_per_s * given.cores * speeds[number],
            left=costs.start_s,
        )
        for number in range(nodes)
    ]
    labelling_s = _label(machines, costs, given, spent)
    pages = given.photos / given.prefixes / _KEYS_PER_PAGE
    listing_s = pages * (given.request_s + _KEYS_PER_PAGE / costs.keys_per_s)
    bytes_per_s = given.network_gbit_per_s * 1e9 / 8
    merge_s = max(given.photos / costs.merged_rows_per_s, ranges * costs.part_bytes / bytes_per_s)
    total_s = listing_s + labelling_s + merge_s
    whole = {LISTING: listing_s, MERGE: merge_s, **{limit: seconds / nodes for limit, seconds in spent.items()}}
    shares = sorted(((limit, seconds / total_s) for limit, seconds in whole.items()), key=lambda each: -each[1])
    return Outcome(nodes, given.photos / total_s, total_s / 3600, tuple(shares))


def _label(machines: list[_Node], costs: Costs, given: Assumptions, spent: defaultdict[str, float]) -> float:
    """Run all ranges; return the seconds, and add to `spent` what each machine's seconds went to."""
    # A range asks for its old part and its first page before, and puts its part afterwards.
    between_s = costs.range_s + costs.part_s + 3 * given.request_s
    network = given.network_gbit_per_s * 1e9 / 8 / costs.photo_bytes
    now_s = 0.0
    while running := [machine for machine in machines if machine.ranges or machine.left]:
        _share_gets([machine for machine in running if machine.is_labelling], given, network)
        step_s = min(machine.left / machine.rate for machine in running)
        now_s += step_s
        spent[STRAGGLERS] += step_s * (len(machines) - len(running))
        for machine in running:
            if machine.is_labelling:
                used = machine.rate / machine.cpu
                waits_for = NETWORK if machine.rate >= network else GETS
                spent[CPU] += step_s * used
                spent[waits_for] += step_s * (1 - used)
            else:
                spent[RANGES] += step_s
            machine.left -= step_s * machine.rate
            if machine.left <= 1e-9 * ROWS_PER_PART:
                _next_phase(machine, between_s)
    return now_s


def _next_phase(machine: _Node, between_s: float) -> None:
    machine.rate = 1.0
    if machine.is_labelling:
        machine.is_labelling, machine.left = False, between_s
    elif machine.ranges:
        machine.ranges -= 1
        machine.is_labelling, machine.left = True, float(ROWS_PER_PART)
    else:
        machine.left = 0.0


def _share_gets(labelling: list[_Node], given: Assumptions, network: float) -> None:
    """Give each machine that labels its rate: what its CPU and network allow, and a fair part of the store's GETs."""
    free = given.gets_per_s * given.prefixes
    for index, machine in enumerate(sorted(labelling, key=lambda each: each.cpu)):
        machine.rate = min(machine.cpu, network, free / (len(labelling) - index))
        free -= machine.rate


def table(outcomes: dict[str, list[Outcome]]) -> str:
    """The outcomes as Markdown: a line for each number of nodes, the limit with its share of the time."""
    heads = "".join(f" {name}: photos/s | hours | limit |" for name in outcomes)
    lines = [f"| nodes |{heads}", "|---" * (1 + 3 * len(outcomes)) + "|"]
    for row in zip(*outcomes.values(), strict=True):
        cells = "".join(
            f" {each.photos_per_s:,.0f} | {each.hours:.1f} | "
            + ", ".join(f"{limit} ({share:.0%})" for limit, share in each.limits)
            + " |"
            for each in row
        )
        lines.append(f"| {row[0].nodes} |{cells}")
    return "\n".join(lines) + "\n"


_GIVEN = Assumptions()


@click.command()
@click.argument("photos", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--count", default=1000, show_default=True, help="Photos to measure the labelling with.")
@click.option("--runs", default=3, show_default=True, help="Runs of each measurement; medians count.")
@click.option("--photos-in-all", default=_GIVEN.photos, show_default=True, help="Assumed: photos of the job.")
@click.option("--cores", default=_GIVEN.cores, show_default=True, help="Assumed: cores of a node.")
@click.option("--prefixes", default=16, show_default=True, help="Assumed: prefixes of the second curve.")
@click.option("--gets", default=_GIVEN.gets_per_s, show_default=True, help="Assumed: GETs/s of a prefix.")
@click.option("--request", default=_GIVEN.request_s, show_default=True, help="Assumed: seconds of a request.")
@click.option("--network", default=_GIVEN.network_gbit_per_s, show_default=True, help="Assumed: Gbit/s of a node.")
@click.option("--spread", default=_GIVEN.speed_spread, show_default=True, help="Assumed: scatter of node speeds.")
@click.option("--gets-usd", default=_GIVEN.usd_per_million_gets, show_default=True, help="Assumed: a million GETs.")
@click.option("--core-usd", default=_GIVEN.usd_per_core_hour, show_default=True, help="Assumed: a core's hour.")
@click.option("--picture", type=click.Path(path_type=Path), default=Path("docs/scaling.png"), show_default=True)
@click.option("--draw-again", is_flag=True, help="Measure nothing; draw the picture of the last results.")
@click.option("--results", type=click.Path(path_type=Path), help="Folder of the table.  [default: benchmarks/results]")
def main(
    photos: Path | None,
    count: int,
    runs: int,
    photos_in_all: int,
    cores: int,
    prefixes: int,
    gets: float,
    request: float,
    network: float,
    spread: float,
    gets_usd: float,
    core_usd: float,
    picture: Path,
    draw_again: bool,
    results: Path | None,
) -> None:
    """Measure the costs with PHOTOS (or those that scikit-image ships), simulate, and write the table and picture."""
    given = Assumptions(photos_in_all, cores, 1, gets, request, network, spread, gets_usd, core_usd)
    folder = results or results_folder()
    title = f"{given.photos:,} photos, {given.cores} cores a node"
    if draw_again:
        core = float(read_result(folder / "scaling.json")["figures"]["core"])
        write_chart(picture, curves_of((folder / _TABLE).read_text()), core * given.cores, title)
        return
    costs = measured(photos, count, runs)
    click.echo(costs.lines())
    core_hours = 1e6 / costs.photos_per_s / 3600
    click.echo(
        f"a million photos: {given.usd_per_million_gets:.2f} USD of GETs, "
        f"{core_hours * given.usd_per_core_hour:.3f} USD of CPU ({core_hours:.2f} core hours)"
    )
    outcomes = {
        name: [simulate(nodes, costs, replace(given, prefixes=several)) for nodes in NODE_COUNTS]
        for name, several in {"one prefix": 1, f"{prefixes} prefixes": prefixes}.items()
    }
    text = table(outcomes)
    click.echo(text)
    (folder / _TABLE).write_text(text)
    write_chart(picture, curves_of(text), costs.photos_per_s * given.cores, title)


if __name__ == "__main__":
    main()
