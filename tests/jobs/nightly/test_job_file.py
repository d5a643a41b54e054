from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from jobs.nightly.job import Job
from jobs.nightly.job_file import load_job
from jobs.nightly.run import seconds_until
from jobs.nightly.toml_lines import line_numbers
from tests.support.job_helpers import label_job

MISTAKEN = """\
sumary = "x.json"
deadline = "25:00"

[[task]]
name = "a"
photos = "${NOWHERE_SET}"
output = "a.parquet"
topk = "three"

[[task]]
name = "a"
photos = "photos"
output = "b.tiff"
include = [
  "modle = 1",
]
modle = "efficientnet_lite0"
"""


def test_all_mistakes_are_reported_at_once_each_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "nightly.toml").write_text(MISTAKEN)
    done = label_job("check", str(tmp_path / "nightly.toml"))
    assert done.returncode == 2
    found = [line.removeprefix(f"label-job: {tmp_path}/nightly.toml: ") for line in done.stderr.splitlines()]
    assert found == [
        "line 1: unknown key 'sumary'; did you mean 'summary'?",
        "line 2: deadline: must be a time of day such as 06:00, not '25:00'",
        "line 6: the environment has no variable NOWHERE_SET",
        "line 8: topk: must be a whole number, not 'three'",
        "line 11: name 'a' is already used by the task in line 5",
        "line 13: output 'b.tiff' must end in .parquet or .csv, or be a folder with partition_by",
        "line 17: unknown key 'modle'; did you mean 'model'?",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "there is no [[task]]"),
        ("task = []", "line 1: there is no [[task]]"),
        ('summary = "a\n', "line 1: "),
        (
            '[[task]]\nname = "a"\nphotos = "p"\noutput = "o.csv"\npartition_by = "exif"\n',
            "line 4: output 'o.csv' is a table",
        ),
        ('[[task]]\nphotos = "p"\noutput = "o.csv"\n', "line 1: a task needs the key 'name'"),
        ('[[task]]\nname = "../a"\nphotos = "p"\noutput = "o.csv"\n', "line 2: name: must be letters, digits"),
    ],
)
def test_an_invalid_job_file_is_refused_in_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "job.toml").write_text(text)
    job = load_job(tmp_path / "job.toml", {})
    assert isinstance(job, tuple)
    assert sentence in str(job[0])


def test_values_come_from_the_environment_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(
        '[[task]]\nname = "${WHO:-me}"\nphotos = "${PHOTOS}/in"\noutput = "out/a$$b.csv"\ntopk = "${K}"\n'
    )
    job = load_job(tmp_path / "job.toml", {"PHOTOS": "/srv/photos", "K": "5"})
    assert isinstance(job, Job), job
    (task,) = job.task
    assert (task.name, task.topk, task.photos) == ("me", 5, Path("/srv/photos/in"))
    assert task.output == tmp_path / "out" / "a$b.csv"
    assert job.summary == tmp_path / "job.summary.json"


def test_the_example_is_a_valid_job_and_never_replaces_a_file(tmp_path: Path) -> None:
    path = tmp_path / "nightly.toml"
    assert label_job("init", str(path)).returncode == 0
    job = load_job(path, {"PHOTOS": "/srv/photos"})
    assert isinstance(job, Job), job
    assert job.task[0].photos == Path("/srv/photos")
    written = path.read_text()
    assert label_job("init").stdout == written
    commented_in = "\n".join(line.removeprefix("# ") if " = " in line else line for line in written.splitlines())
    everything = load_job(_written(tmp_path / "all.toml", commented_in.replace("# [[task]]", "[[task]]")), {})
    assert isinstance(everything, Job), everything
    path.write_text("mine")
    assert label_job("init", str(path)).returncode == 2
    assert path.read_text() == "mine"


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_text_that_looks_like_a_key_has_no_line() -> None:
    lines = line_numbers('a = """\nb = 1\n[c]\n"""\n"d e" = 2\n[[t]]\nx.y = 1\n[[t]]\nx = [\n 1,\n]\n')
    assert lines == {("a",): 1, ("d e",): 5, ("t", 0): 6, ("t", 0, "x", "y"): 7, ("t", 1): 8, ("t", 1, "x"): 9}


@pytest.mark.parametrize(
    ("now", "clock_time", "hours"),
    [("2026-03-10 02:30", "06:00", 3.5), ("2026-03-10 06:01", "06:00", 23 + 59 / 60), ("2026-03-10 23:00", "06:00", 7)],
)
def test_the_deadline_is_the_next_such_time_of_day(now: str, clock_time: str, hours: float) -> None:
    assert seconds_until(clock_time, datetime.datetime.fromisoformat(now)) == hours * 3600
