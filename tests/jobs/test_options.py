"""The labelling options mean the same on every command line and in a job file."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from jobs import label_dir, watch_folder
from jobs.cli.options import LabellingOptions, WatchTimings, take_options
from jobs.nightly.job import Job
from jobs.nightly.job_file import load_job


def _parsed(command: click.Command, *arguments: str) -> LabellingOptions:
    parsed = command.make_context("command", [*arguments, "photos", "out"]).params
    return take_options(LabellingOptions, parsed)


def _job(folder: Path, *lines: str) -> object:
    task = ["[[task]]", 'name = "a"', 'photos = "photos"', 'output = "out.csv"', *lines]
    (folder / "job.toml").write_text("\n".join(task))
    return load_job(folder / "job.toml", {})


@pytest.mark.parametrize("command", [label_dir.command, watch_folder.command])
def test_defaults_are_the_same_everywhere(command: click.Command, tmp_path: Path) -> None:
    job = _job(tmp_path)
    assert isinstance(job, Job), job
    assert _parsed(command) == LabellingOptions()
    task_options = {name: getattr(job.task[0], name) for name in LabellingOptions.__slots__}
    assert LabellingOptions(**task_options) == LabellingOptions()


@pytest.mark.parametrize(("name", "loader"), [("pipes", "pipes"), ("torch", "torch"), ("dataloader", "torch")])
def test_a_loader_has_one_name_and_one_alias(tmp_path: Path, name: str, loader: str) -> None:
    job = _job(tmp_path, f'loader = "{name}"')
    assert isinstance(job, Job), job
    assert job.task[0].loader == loader
    for command in (label_dir.command, watch_folder.command):
        assert _parsed(command, "--loader", name).loader == loader


@pytest.mark.parametrize(
    ("key", "value"), [("workers", 0), ("pool", 1025), ("topk", 1001), ("timeout", 0.5), ("max_bytes", 0)]
)
def test_bounds_are_the_same_everywhere(tmp_path: Path, key: str, value: float) -> None:
    mistakes = _job(tmp_path, f"{key} = {value}")
    assert isinstance(mistakes, tuple)
    assert str(mistakes[0]).startswith(f"line 5: {key}: must be ")
    for command in (label_dir.command, watch_folder.command):
        with pytest.raises(click.BadParameter, match=r"not in the range|is not between"):
            _parsed(command, f"--{key.replace('_', '-')}", str(value))


def test_durations_are_seconds() -> None:
    arguments = ["--flush", "500ms", "--poll", "1m", "photos", "out"]
    parsed = label_dir.command.make_context("label-dir", arguments).params
    assert take_options(WatchTimings, parsed) == WatchTimings(flush=0.5, poll=60.0)
    assert "flush" not in parsed
