"""Two job files in one folder whose photos, outputs, summaries and metrics collide.

The oracle: a task that is done leaves one row for each photo of its folder, with the labels of its bytes; a task that
fails changes no output; no foreign file changes, and no summary of another job is replaced.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from jobs.labelling import label_folder
from jobs.labelling.results import JobResult, Outcome
from jobs.nightly import task as nightly_task
from jobs.nightly.job import Job
from jobs.nightly.job_file import load_job
from jobs.nightly.run import run_job
from pipeline.errors import LabelDirError
from pipeline.records import RunSummary
from pipeline.run import run
from pipeline.run_request import Hooks, RunRequest
from pipeline.tables.reader import read_rows
from tests.support.bytes_labeller import MODEL, TIME_NS, TOP_K, BytesLabeller, labels_of, put
from tests.trial.damage import SCRATCH, steps

JOBS = st.sampled_from(["one", "two"])
FOLDERS = st.sampled_from(["2023", "2024"])
NAMES = st.sampled_from(["a.jpg", "b.jpg", "sub/a.jpg"])
SUMMARIES = st.sampled_from(["", "same.json"])
OUTPUTS = st.sampled_from(["labels.parquet", "labels.csv", "set", "./x/../labels.csv"])
PLACES = st.sampled_from(
    ["labels.parquet", "labels.csv", "same.json", "one.summary.json", "same.prom", "set/date=2023-11-14/labels.parquet"]
)
FOREIGN = b"of another program\n"


class TwoJobs(RuleBasedStateMachine):
    """The model is the disk itself: photos, and the files that the enemy put there."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="two-jobs-", dir=SCRATCH))
        (self.folder / "x").mkdir()
        for name in ("2023", "2024"):
            (self.folder / name).mkdir()
        self.count = 0
        self.foreign: set[Path] = set()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(label_folder, "ensure_artifact", lambda *_: dataclasses.replace(MODEL, labels=("a", "b")))
        self.patch.setattr(nightly_task, "run", _run_without_workers)

    @initialize(outputs=st.tuples(OUTPUTS, OUTPUTS), photos=st.tuples(FOLDERS, FOLDERS), has_metrics=st.booleans())
    def start(self, outputs: tuple[str, str], photos: tuple[str, str], has_metrics: bool) -> None:
        for job, output, folder in zip(("one", "two"), outputs, photos, strict=True):
            self.write_job(job, folder, output, "", has_metrics)
        for folder in ("2023", "2024"):
            self.write_photo(folder, "a.jpg", 0)

    @rule(
        job=JOBS, photos=FOLDERS, output=OUTPUTS, summary=st.sampled_from(["", "same.json"]), has_metrics=st.booleans()
    )
    def write_job(self, job: str, photos: str, output: str, summary: str, has_metrics: bool) -> None:
        lines = [f'summary = "{summary}"'] if summary else []
        lines += ['metrics = "same.prom"'] if has_metrics else []
        lines += ["[[task]]", 'name = "t"', f'photos = "{photos}"', f'output = "{output}"', f"topk = {TOP_K}"]
        lines += ['max_gone = "100%"', *(['partition_by = "mtime"'] if output == "set" else [])]
        (self.folder / f"{job}.toml").write_text("\n".join(lines))

    @rule(folder=FOLDERS, name=NAMES, day=st.integers(0, 2))
    def write_photo(self, folder: str, name: str, day: int) -> None:
        """Add or overwrite a photo, whose time is its own."""
        self.count += 1
        put(self.folder / folder / name, f"{self.count:04d}".encode(), TIME_NS + (86_400 * day + self.count) * 10**9)

    @rule(folder=FOLDERS, name=NAMES)
    def delete_photo(self, folder: str, name: str) -> None:
        (self.folder / folder / name).unlink(missing_ok=True)

    @rule(place=PLACES)
    def another_program_writes(self, place: str) -> None:
        path = self.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(FOREIGN)
        self.foreign.add(path)

    @rule(place=PLACES)
    def foreign_file_goes(self, place: str) -> None:
        path = self.folder / place
        if path in self.foreign:
            path.unlink()
            self.foreign.discard(path)

    @rule(job=JOBS)
    def run_job(self, job: str) -> None:
        path = self.folder / f"{job}.toml"
        loaded = load_job(path) if path.exists() else None
        if not isinstance(loaded, Job):
            return
        (task,) = loaded.task
        before, summary_before = _files(task.output), _job_of(loaded.summary)
        try:
            result: JobResult | None = run_job(path, loaded)
        except LabelDirError:
            result = None
        if result is None or result.tasks[0].outcome is Outcome.FAILED:
            assert _files(task.output) == before, "a task that failed changed its output"
        else:
            assert isinstance(task.photos, Path)
            self._check_rows(task.photos, task.output)
        if result is None:
            assert _job_of(loaded.summary) == summary_before
        else:
            assert summary_before in (None, str(path)) or not Path(summary_before).exists()
            assert _job_of(loaded.summary) == str(path)

    @invariant()
    def foreign_files_are_as_they_were(self) -> None:
        assert all(path.read_bytes() == FOREIGN for path in self.foreign)

    def teardown(self) -> None:
        self.patch.undo()
        shutil.rmtree(self.folder)

    def _check_rows(self, photos: Path, output: Path) -> None:
        contents = {str(path.relative_to(photos)): path.read_bytes() for path in photos.rglob("*") if path.is_file()}
        is_empty = output.is_dir() and not list(output.glob("date=*/labels.parquet"))
        rows = [] if is_empty else read_rows(output).to_pylist()
        found = {row["file_name"]: (row["label_1"], row["label_2"]) for row in rows}
        assert found == {name: labels_of(content) for name, content in contents.items()}
        assert len(rows) == len(contents)


def _run_without_workers(request: RunRequest, hooks: Hooks) -> RunSummary:
    labeller: Any = BytesLabeller()
    return run(request, hooks, labeller)


def _files(output: Path) -> dict[str, bytes]:
    """Return what lies at an output: the file, or all files of the dataset."""
    paths = [output] if output.is_file() else [path for path in output.rglob("*") if path.is_file()]
    return {os.path.relpath(path, output): path.read_bytes() for path in paths}


def _job_of(summary: Path) -> str | None:
    try:
        return str(json.loads(summary.read_bytes())["job"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


TestTwoJobs = TwoJobs.TestCase
TestTwoJobs.settings = steps(100, 30)
