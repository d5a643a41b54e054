"""How fast a Ray cluster on this machine labels, beside a plain run: photos a second in the steady state.

    python benchmarks/ray_rate.py photos/              one node that offers all cores
    python benchmarks/ray_rate.py photos/ --nodes 2    nodes that share the cores

Both take turns, and the order changes from pair to pair. The rate is that of a run's last line: photos a second since
the processes were ready; with Ray, the parts are published within that time. The median of the pairs' ratios counts,
and the scatter says how much to believe. The cluster is in a network of its own (`unshare`, as root or with name
spaces of users), because Ray listens on all addresses.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

# The nodes are those of the tests.
sys.path.insert(0, str(Path(__file__).parents[1]))

import click
from sample_photos import make_folder, source_photos

from tests.support.own_network import IN_OWN_NETWORK, own_network_command
from tests.support.ray_nodes import running_ray

_PARTS_PER_NODE = 2
_RATE = re.compile(r"\((\d+) images/s\) -> ")


def rate(*arguments: object) -> int:
    """Run label-dir with its default model; return the photos a second that its last line tells."""
    command = [str(Path(sys.executable).with_name("label-dir")), "--fresh", *map(str, arguments)]
    told = subprocess.run(command, check=True, stderr=subprocess.PIPE, text=True).stderr
    found = _RATE.search(told)
    if found is None:
        raise click.ClickException(told)
    return int(found[1])


@click.command()
@click.argument("photos", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--count", default=2500, show_default=True, help="Photos of a turn.")
@click.option("--pairs", default=5, show_default=True)
@click.option("--nodes", default=1, show_default=True, type=click.IntRange(1))
def main(photos: Path | None, count: int, pairs: int, nodes: int) -> None:
    """Label PHOTOS, or the photos that scikit-image ships, with and without Ray."""
    cpus = sorted(os.sched_getaffinity(0))
    per_node = len(cpus) // nodes
    with tempfile.TemporaryDirectory() as scratch, running_ray() as cluster:
        home = Path(scratch)
        folder = make_folder(home / "photos", source_photos(photos), count, None)
        for number in range(nodes):
            os.sched_setaffinity(0, cpus[number * per_node : (number + 1) * per_node])
            cluster.add(cpus=per_node)
        os.sched_setaffinity(0, cpus)
        part_rows = count // (nodes * _PARTS_PER_NODE)

        ray = ["--ray", cluster.address, "--part-rows", part_rows, folder, f"{home / 'parts'}/"]
        plain = [folder, home / "plain.parquet"]
        rate(*ray)
        ratios = []
        for number in range(pairs):
            turn = {is_on_ray: rate(*(ray if is_on_ray else plain)) for is_on_ray in _order(number)}
            ratios.append(turn[True] / turn[False])
            click.echo(f"{number + 1}: plain {turn[False]}/s, Ray {turn[True]}/s, ratio {ratios[-1]:.3f}")
    middle = statistics.median(ratios)
    click.echo(f"{nodes} node(s): ratio {middle:.3f} ({min(ratios):.3f} to {max(ratios):.3f}), {pairs} pairs")


def _order(number: int) -> tuple[bool, bool]:
    return (False, True) if number % 2 else (True, False)


if __name__ == "__main__":
    if IN_OWN_NETWORK not in os.environ:
        os.environ[IN_OWN_NETWORK] = "1"
        own_command = own_network_command([sys.executable, *sys.argv])
        os.execvp(own_command[0], own_command)
    main()
