"""All figures of the manual, measured again and written into it.

    python benchmarks/all_numbers.py photos photos.csv    overnight; what this commit has measured is left out
    python benchmarks/all_numbers.py photos photos.csv --only decoding
    python benchmarks/all_numbers.py photos photos.csv --trial    each part in a short form; nothing is kept
    python benchmarks/all_numbers.py --manual                writes the manual from the results as they are

A part's figures go to benchmarks/results/NAME.json at once, with date, CPU and versions, so an interrupted night goes
on where it was. A part that fails is named at the end, and its old figures stay. Needs the extras `bench` and `test`.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
from manual import DOCUMENTS, ROOT, filled, known_texts
from number_parts import PARTS, Part, figures_of, texts_of
from results import commit, conditions, read_result, results_folder

_PATH = click.Path(exists=True, path_type=Path, resolve_path=True)


def measure(name: str, part: Part, inputs: dict[str, str], is_trial: bool) -> dict[str, object]:
    """Run a part's command; return the content of its result file. Raises ClickException for a part that fails."""
    with tempfile.TemporaryDirectory() as scratch:
        template = part.trial if is_trial else part.command
        places = {**inputs, "python": sys.executable, "bin": str(Path(sys.executable).parent), "scratch": scratch}
        command = [word.format_map(places) for word in shlex.split(template)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        began_s = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{name}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    try:
        figures = figures_of(part, done.stdout)
    except ValueError as error:
        raise click.ClickException(f"{name}: {error}\n{done.stdout[-2000:]}") from error
    return {
        "name": name,
        **conditions(),
        "command": template,
        "seconds": round(time.monotonic() - began_s),
        "figures": figures,
        "texts": texts_of(part, figures),
    }


def write_manual() -> None:
    """Write the texts of all results into the manual."""
    texts = known_texts(results_folder())
    for document in DOCUMENTS:
        document.write_text(filled(document.read_text(), texts))


def is_measured(path: Path) -> bool:
    """Whether this commit has measured a part already."""
    return bool(commit()) and read_result(path).get("commit") == commit()


@click.command()
@click.argument("photos", required=False, type=_PATH)
@click.argument("truth", required=False, type=_PATH)
@click.option("--only", multiple=True, type=click.Choice(list(PARTS)), help="Only these parts.  [default: all]")
@click.option("--again", is_flag=True, help="Also what this commit has measured already.")
@click.option("--trial", is_flag=True, help="Each part in a short form; no result is kept.")
@click.option("--manual", is_flag=True, help="Measure nothing; write the manual from the results.")
def numbers(
    photos: Path | None, truth: Path | None, only: tuple[str, ...], again: bool, trial: bool, manual: bool
) -> None:
    """Measure every part on PHOTOS, whose classes TRUTH has, and write the manual's figures."""
    if manual:
        return write_manual()
    if photos is None or truth is None:
        raise click.UsageError("PHOTOS and TRUTH are needed to measure")
    failed = []
    for name in only or PARTS:
        path = results_folder() / f"{name}.json"
        if not (trial or again) and is_measured(path):
            click.echo(f"{name}: measured at this commit already")
            continue
        click.echo(f"{name} ...")
        try:
            result = measure(name, PARTS[name], {"photos": str(photos), "truth": str(truth)}, trial)
        except click.ClickException as error:
            failed.append(name)
            click.echo(error.message, err=True)
            continue
        click.echo(json.dumps(result["texts"], indent=1))
        if not trial:
            path.write_text(json.dumps(result, indent=1) + "\n")
            write_manual()
    if failed:
        raise click.ClickException(f"these parts failed, and their figures are the old ones: {', '.join(failed)}")
    return None


if __name__ == "__main__":
    numbers()
