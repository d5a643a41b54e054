"""OpenVINO runs the same artifact as onnxruntime: equal answers, nothing sent, and a compiled form that is checked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.artifact import Artifact, read_artifact
from models.classifier import Classifier
from models.engines import load_engine
from models.engines.blob_cache import read_blob
from models.engines.openvino_engine import OpenVinoClassifier
from models.errors import InputMissingError
from models.quantization.agreement import logits_of, relative_error
from models.quantization.artifact_builder import int8_artifact
from models.quantization.calibrate import candidate_calibrations
from models.quantization.quantize import Recipe
from models.samples import Photos
from tests.support.networks import CLASSES, images, small_network

_ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The int8 artifact of a small network."""
    path = tmp_path_factory.mktemp("int8") / "int8.onnx"
    calibration = candidate_calibrations(small_network(), Photos(images(), "generated"))[0]
    path.write_bytes(int8_artifact(small_network(), calibration, Recipe("portable")))
    return read_artifact(path)


@pytest.fixture(autouse=True)
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of compiled forms, of a cache that is empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/label-dir/models/compiled"


@pytest.mark.parametrize("top_k", [1, 3, CLASSES])
def test_photos_get_the_labels_that_onnxruntime_gives_them_in_batches_of_any_size(int8: Artifact, top_k: int) -> None:
    engine = load_engine("openvino", int8.path, 1, top_k)
    engine.warm_up(16)
    for count in (16, 1, 5):
        given, wanted = (each.classify(images()[:count]) for each in (engine, Classifier(int8.path, 1, top_k)))
        assert given.ids.dtype == np.int32
        assert given.ids.shape == given.probabilities.shape == (count, top_k)
        assert (given.ids[:, 0] == wanted.ids[:, 0]).mean() >= 0.9
        assert abs(given.probabilities - wanted.probabilities).max() < 0.1
        assert (given.familiarity == 1).all()


def test_its_int8_arithmetic_is_that_of_the_artifact(int8: Artifact) -> None:
    exact = logits_of(int8.path, images(), 1, as_int8=False)
    assert relative_error(OpenVinoClassifier(int8.path, 1, 3).logits(images()), exact) < 0.01


def test_an_answer_stays_the_same_when_the_next_batch_is_classified(int8: Artifact) -> None:
    engine = load_engine("openvino", int8.path, 1, 3)
    first = engine.classify(images()[:4])
    kept = first.ids.copy(), first.probabilities.copy()
    engine.classify(images()[4:8])
    assert (first.ids == kept[0]).all()
    assert (first.probabilities == kept[1]).all()


def test_a_compiled_form_is_kept_used_again_and_made_again_where_it_is_damaged(int8: Artifact, compiled: Path) -> None:
    wanted = load_engine("openvino", int8.path, 1, 3).classify(images())
    (form,) = compiled.iterdir()
    content, made = form.read_bytes(), form.stat().st_mtime_ns
    assert (load_engine("openvino", int8.path, 1, 3).classify(images()).ids == wanted.ids).all()
    assert form.stat().st_mtime_ns == made
    for damage in (content[:-1], content[: len(content) // 2] + b"\0" * 8 + content[len(content) // 2 + 8 :], b""):
        form.write_bytes(damage)
        assert (load_engine("openvino", int8.path, 1, 3).classify(images()).ids == wanted.ids).all()
        assert len(form.read_bytes()) == len(content)
        assert form.read_bytes() != damage


_COMPILES = """
import sys
from pathlib import Path
from models.engines import load_engine
load_engine("openvino", Path(sys.argv[1]), 1, 3).warm_up(2)
"""


def test_processes_that_compile_at_once_leave_one_whole_form_and_nothing_else(int8: Artifact, compiled: Path) -> None:
    command = [sys.executable, "-c", _COMPILES, str(int8.path)]
    processes = [subprocess.Popen(command, cwd=_ROOT) for _ in range(4)]
    assert [process.wait(timeout=120) for process in processes] == [0] * 4
    (form,) = compiled.iterdir()
    assert read_blob(form) is not None


def test_a_compiled_form_that_others_could_have_written_is_not_loaded(int8: Artifact, compiled: Path) -> None:
    load_engine("openvino", int8.path, 1, 3)
    (form,) = compiled.iterdir()
    form.chmod(0o666)
    before = form.stat().st_ino
    load_engine("openvino", int8.path, 1, 3)
    assert form.stat().st_ino != before
    elsewhere = compiled.parent / "elsewhere.blob"
    form.rename(elsewhere)
    form.symlink_to(elsewhere)
    load_engine("openvino", int8.path, 1, 3)
    assert not form.is_symlink()


def test_a_cache_that_cannot_be_written_only_takes_longer(int8: Artifact, compiled: Path) -> None:
    compiled.parent.mkdir(parents=True)
    compiled.write_text("no folder")
    assert load_engine("openvino", int8.path, 1, 3).classify(images()[:1]).ids.shape == (1, 3)


def test_the_compiled_forms_of_another_version_are_removed(int8: Artifact, compiled: Path) -> None:
    load_engine("openvino", int8.path, 1, 3)
    (form,) = compiled.iterdir()
    model, _, _ = form.name.partition("-openvino-")
    old, of_another_model = compiled / f"{model}-openvino-1.0-0.blob", compiled / "other-openvino-1.0-0.blob"
    old.touch()
    of_another_model.touch()
    load_engine("openvino", int8.path, 1, 2)
    assert not old.exists()
    assert of_another_model.exists()
    assert form.exists()


WATCHED = """
import os, sys
reached = []
sys.addaudithook(lambda event, arguments: reached.append(arguments) if event == "socket.connect" else None)
from pathlib import Path
from models.engines import load_engine
load_engine("openvino", Path(sys.argv[1]), 1, 3).warm_up(1)
assert sys.modules.get("openvino_telemetry") is None
print(reached, os.listdir(os.environ["HOME"]))
"""


def test_openvino_sends_nothing_and_writes_nothing_into_the_home_folder(int8: Artifact, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    # Its own telemetry is silent where it sees that it runs in CI.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("CI", "GITHUB", "TF_BUILD"))
    }
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-c", WATCHED, str(int8.path)]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert answer.stdout == "[] []\n"


def test_a_file_with_another_number_of_labels_than_classes_is_refused(int8: Artifact, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(int8.path)
    for entry in model.metadata_props:
        if entry.key == "labels":
            entry.value = '["only one"]'
    (tmp_path / "odd.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputMissingError, match=f"describes 1 labels, and its network has {CLASSES} classes"):
        load_engine("openvino", tmp_path / "odd.onnx", 1, 1)
