"""Whatever happens to the process or the disk while a taught model is put in its place: a whole model has the name."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from jobs.workshop.teaching import tell_of_another
from jobs.workshop.teaching_build import BuiltModel, put_in_place
from models.artifact import read_artifact
from models.build_steps import Int8Result
from models.certification.certificate import read_certificate
from models.errors import OutputError
from models.manifest import certificate_path, read_manifest
from models.networks.references import References
from models.teaching.lesson import Lesson
from models.teaching.memory_file import memory_path, read_memory
from models.teaching.photo_set import PhotoSet
from tests.conftest import command_path
from tests.faults.disk import FailingDisk, FaultKind
from tests.support.certificates import passed_certificate
from tests.support.tiny_model import write_tiny_model

LABELS = ("cat", "coffee")
MOST_STEPS = 100
UNDISTURBED, WHOLE, FAILED = 0, 5, 74


def photo_set(folder: Path) -> PhotoSet:
    digests = ("0" * 64, "1" * 64)
    return PhotoSet(LABELS, ("a", "b"), digests, np.array([0, 1]), (None, None), folder / ".pixels", 256)


def lesson() -> Lesson:
    features = np.ones((2, 4), np.float32)
    return Lesson(
        held_out=np.array([True, True]),
        logits=np.eye(2, dtype=np.float32),
        base_features=features,
        features=features,
        references=References(features.T, np.ones((2, 1), np.float32)),
        familiarity=np.ones(2, np.float32),
        doubts=np.zeros(2),
        suspects=np.zeros(2, np.int64),
        pairs=(),
        curve=(),
        temperature=1.0,
        min_probability=0.5,
        min_familiarity=0.0,
        epochs=1.0,
        epochs_planned=1.0,
        epochs_worthwhile=1.0,
        only_head=False,
        recomputes=False,
    )


def built_model(models: Path, number: int) -> BuiltModel:
    """The files of a model called "shelf", as building leaves them; each number is another model."""
    models.mkdir(parents=True, exist_ok=True)
    tiny = write_tiny_model(models / "tiny.onnx")
    int8, fp32 = (f"shelf-{kind}-{number:012x}.onnx" for kind in ("int8", "fp32"))
    state, calibration = f"shelf-torch-{number:012x}.pt", f"shelf-calibration-{number:012x}.json"
    shutil.move(tiny.path, models / int8)
    for name in (fp32, state, calibration):
        (models / name).write_text(f"model {number}")
    model_id = read_artifact(models / int8).model_id
    result = Int8Result(int8, calibration, passed_certificate(model_id=model_id, images=f"model {number}"))
    return BuiltModel("shelf", "efficientnet_lite0", fp32, state, result, np.array([0, 1]), np.eye(2, dtype=np.float32))


def put_with_a_fault(folder: Path, model: BuiltModel, kind: FaultKind, at: int) -> int:
    """Put the model in place in a process whose disk fails at step `at`: its exit code, negative if killed."""
    pid = os.fork()
    if pid == 0:
        try:
            disk = FailingDisk(str(folder), kind, at)
            disk.install()
            put_in_place(model, photo_set(folder), lesson())
            os._exit(WHOLE if len(disk.steps) >= at else UNDISTURBED)
        except OutputError:
            os._exit(FAILED)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("kind", ["kill", "enospc"])
def test_a_model_is_the_old_one_or_the_new_one_at_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: FaultKind
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    models = cache / "label-dir" / "models"
    put_in_place(built_model(models, 1), photo_set(models), lesson())
    new = built_model(models, 2)
    shutil.copytree(cache, tmp_path / "before")
    seen = set()
    for step in range(1, MOST_STEPS):
        shutil.rmtree(cache)
        shutil.copytree(tmp_path / "before", cache)
        ended = put_with_a_fault(cache, new, kind, step)
        manifest = read_manifest("shelf")
        assert manifest is not None
        assert {(models / name).is_file() for name in manifest.files} == {True}
        assert read_certificate(certificate_path(read_artifact(models / manifest.int8))) is not None
        remembered = read_memory(memory_path("shelf"))
        assert remembered is not None
        seen.add((ended, manifest.fp32))
        if ended == UNDISTURBED:
            assert (manifest.fp32, remembered.fp32) == (new.fp32, new.fp32)
            break
    fault = FAILED if kind == "enospc" else -signal.SIGKILL
    assert {(fault, "shelf-fp32-000000000001.onnx"), (UNDISTURBED, new.fp32)} <= seen
    assert step > 8


def test_a_model_of_the_name_that_was_not_taught_is_not_replaced_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    models = tmp_path / "cache" / "label-dir" / "models"
    notices: list[str] = []
    tell_of_another("shelf", notices.append)
    put_in_place(built_model(models, 1), photo_set(models), lesson())
    tell_of_another("shelf", notices.append)
    assert notices == []
    memory_path("shelf").unlink()
    tell_of_another("shelf", notices.append)
    assert notices == ["the model shelf that is there was not taught; it is replaced when the new one is finished"]


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_a_teaching_killed_at_random_moments_leaves_a_whole_model_and_the_next_one_cleans_up(tmp_path: Path) -> None:
    from tests.jobs.test_teaching import COLOURS, write_class

    for number, colour in enumerate(COLOURS):
        write_class(tmp_path / "p" / f"kind {number}", colour, 12, number)
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    models = tmp_path / "cache" / "label-dir" / "models"
    command = [command_path("label-models"), "teach", "p", "--name", "shelf", "--minutes", "0.1", "--fresh"]
    command += ["--min-agreement", "0"]
    began_s = time.monotonic()
    subprocess.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True)
    whole_s = time.monotonic() - began_s
    moments = random.Random(15)
    for seed in range(20):
        process = subprocess.Popen(
            [*command, "--seed", str(seed)], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL
        )
        time.sleep(moments.uniform(0, whole_s))
        process.kill()
        process.wait()
        manifest = json.loads((models / "shelf.json").read_text())
        artifact = read_artifact(models / manifest["int8"])
        assert artifact.sha256[:12] in manifest["int8"]
        assert all((models / manifest[key]).is_file() for key in ("fp32", "state", "calibration"))
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True)
    assert done.returncode in (0, 3), done.stderr
    manifest = json.loads((models / "shelf.json").read_text())
    left = {path.name for path in models.iterdir() if path.is_file() and path.suffix != ".lock"}
    assert left == {"shelf.json", *(manifest[key] for key in ("int8", "fp32", "state", "calibration"))}
