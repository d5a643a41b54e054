"""Paths that are no UTF-8, limits on files, and models that do not run: at every door one sentence and its code."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from models.artifact import Artifact, metadata_of
from models.system.isolated_call import Notify, isolated_call
from pipeline.errors import ModelError
from tests.conftest import Command, command_path, write_photos
from tests.support.tiny_model import write_tiny_model

_NAME = os.fsdecode(b"o\xffut")


def run(name: str, *arguments: object, cwd: Path, file_bytes: int | None = None) -> subprocess.CompletedProcess[str]:
    """Return a finished command, run under a limit on the size of files where one is given."""

    def limit() -> None:
        if file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

    return subprocess.run(
        [command_path(name), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "XDG_CACHE_HOME": str(cwd / "cache")},
        preexec_fn=limit,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=180,
        check=False,
    )


def watch(model: Path, cwd: Path, *arguments: object, **options: int) -> subprocess.CompletedProcess[str]:
    """Return a finished `watch-folder --once`."""
    return run("watch-folder", "-m", model, "--once", "--settle", "0.1s", *arguments, cwd=cwd, **options)


def write_job(path: Path, model: Path, output: str) -> Path:
    """Write a job file of one task for the folder `photos` beside it."""
    path.write_text(f'[[task]]\nname = "t"\nphotos = "photos"\noutput = "{output}"\nmodel = "{model}"\n')
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_table_with_a_path_that_is_no_utf8_is_written_read_shown_and_reported(
    tiny_model: Artifact, tmp_path: Path, suffix: str
) -> None:
    """Case 31: Arrow takes a path only as UTF-8."""
    expected = write_photos(tmp_path / "photos", 2)
    (tmp_path / _NAME).mkdir()
    table = f"{_NAME}/{_NAME}{suffix}"
    for _ in range(2):
        done = run("label-dir", "-m", tiny_model.path, "photos", table, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert "0 labelled" in done.stderr
    shown = run("label-show", table, cwd=tmp_path)
    assert shown.returncode == 0 and all(name in shown.stdout for name in expected), shown.stderr
    for _ in range(2):
        reported = run("label-report", table, f"{_NAME}.html", cwd=tmp_path)
        assert reported.returncode == 0, reported.stderr
    assert r"o\xffut" in (tmp_path / f"{_NAME}.html").read_text()


def test_labels_photos_jobs_and_models_with_paths_that_are_no_utf8_are_used(
    tiny_model: Artifact, tmp_path: Path
) -> None:
    """Case 31, at the other doors."""
    write_photos(tmp_path / _NAME / "photos", 2)
    model = Path(shutil.copy(tiny_model.path, tmp_path / f"{_NAME}.onnx"))
    labels = tmp_path / f"{_NAME}-labels"
    for _ in range(2):
        watched = watch(model, tmp_path, "--status", f"{_NAME}.json", f"{_NAME}/photos", labels)
        assert watched.returncode == 0, watched.stderr
    assert run("label-show", labels, cwd=tmp_path).stdout.count(".png") == 2
    job = write_job(tmp_path / _NAME / f"{_NAME}.toml", tiny_model.path, "labels.parquet")
    for verb in ("check", "run", "run"):
        done = run("label-job", verb, job, cwd=tmp_path)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("limit", [0, 8192])
def test_a_limit_on_the_size_of_files_is_one_sentence_at_every_door(
    tiny_model: Artifact, label_dir: Command, tmp_path: Path, limit: int
) -> None:
    """Case 31: `ulimit -f`."""
    write_photos(tmp_path / "photos", 2)
    label_dir("photos", "out.parquet")
    job = write_job(tmp_path / "job.toml", tiny_model.path, "job.parquet")
    doors: list[Callable[[], subprocess.CompletedProcess[str]]] = [
        lambda: run("label-dir", "-m", tiny_model.path, "photos", "a.csv", cwd=tmp_path, file_bytes=limit),
        lambda: watch(tiny_model.path, tmp_path, "photos", "labels", file_bytes=limit),
        lambda: run("label-job", "run", job, cwd=tmp_path, file_bytes=limit),
        lambda: run("label-report", "out.parquet", "page.html", cwd=tmp_path, file_bytes=limit),
    ]
    for door in doors:
        done = door()
        assert done.returncode == 74, done.stderr
        assert "Traceback" not in done.stderr
    assert run("label-show", "out.parquet", cwd=tmp_path, file_bytes=limit).returncode == 0
    assert not list(tmp_path.rglob("*.tmp"))


def no_op(model: onnx.ModelProto) -> None:
    model.graph.node[0].op_type = "NoSuchOperator"


def no_output(model: onnx.ModelProto) -> None:
    del model.graph.output[1]


def other_side(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 16


def nan_weights(model: onnx.ModelProto) -> None:
    weights = next(weights for weights in model.graph.initializer if weights.name == "direction")
    nothing = np.full_like(numpy_helper.to_array(weights), np.nan)
    weights.CopyFrom(numpy_helper.from_array(nothing, "direction"))


_LABELS = {"labels": json.dumps(["a", "b", "c"])}
_ODD = {
    "too few labels": (lambda model: None, _LABELS),
    "too few labels, int8": (lambda model: None, {**_LABELS, "precision": "int8"}),
    "an operator that is unknown": (no_op, {}),
    "an operator that is unknown, int8": (no_op, {"precision": "int8"}),
    "an output that is missing": (no_output, {}),
    "another side": (other_side, {}),
    "weights that are no numbers": (nan_weights, {}),
}


@pytest.mark.parametrize(("change", "description"), _ODD.values(), ids=_ODD)
def test_a_model_that_does_not_run_as_it_says_is_one_sentence_and_66(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None], description: dict[str, str]
) -> None:
    """Case 32: it was a bug (1), in a child process even a traceback in one line."""
    write_photos(tmp_path / "photos", 1)
    tiny = write_tiny_model(tmp_path / "odd.onnx")
    model = onnx.load(tiny.path)
    change(model)
    onnx.helper.set_model_props(model, {**metadata_of(tiny), **description})
    onnx.save(model, tiny.path)
    job = write_job(tmp_path / "job.toml", tiny.path, "job.parquet")
    for done in (
        run("label-dir", "-q", "-m", "odd.onnx", "photos", "out.parquet", cwd=tmp_path),
        run("label-dir", "-q", "--watch", "-m", "odd.onnx", "photos", "out.parquet", cwd=tmp_path),
        watch(tiny.path, tmp_path, "photos", "labels"),
        run("label-job", "run", job, cwd=tmp_path),
    ):
        assert done.returncode == 66, done.stderr
        assert "odd.onnx is damaged: " in done.stderr
        assert "Traceback" not in done.stderr
        assert max(map(len, done.stderr.splitlines())) < 1000
    assert not (tmp_path / "out.parquet").exists()


def _broken(notify: Notify) -> None:
    raise TypeError("two\nlines")


def test_a_bug_in_a_child_process_is_one_sentence_and_its_traceback_a_note() -> None:
    """Case 32: a traceback is read in lines, not as one line with escaped breaks."""
    with pytest.raises(ModelError) as raised:
        isolated_call(_broken, print)
    assert str(raised.value) == "preparing the model failed: TypeError: two lines"
    assert "in _broken\n" in raised.value.__notes__[0]
