"""The cache: every build gives the same bytes, and a damaged model is built again once, by one process."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from models.artifact import read_artifact
from models.build_steps import Origin, prepare_network
from models.cache import ensure_artifact
from models.engines import ENGINES, load_engine
from models.engines.torch_int8 import load_torch_int8, write_torch_int8
from models.errors import InputMissingError
from models.manifest import torch_int8_name
from models.quantization.artifact_builder import int8_artifact
from models.quantization.calibrate import candidate_calibrations
from models.quantization.quantize import Recipe
from models.samples import Photos, generated_images
from tests.support.networks import images, small_network

ENSURE_ARTIFACT = (
    "import sys; from models.cache import ensure_artifact; print(ensure_artifact('efficientnet_lite0', print).model_id)"
)


def test_a_damaged_model_is_built_again_to_the_same_bytes_by_only_one_of_two_processes(
    default_model_cache: dict[str, str], tmp_path: Path
) -> None:
    shutil.copytree(default_model_cache["XDG_CACHE_HOME"], tmp_path / "cache")
    folder = tmp_path / "cache/label-dir/models"
    manifest = folder / "efficientnet_lite0.json"
    fp32, int8 = (folder / json.loads(manifest.read_text())[precision] for precision in ("fp32", "int8"))
    built = {path: path.read_bytes() for path in (manifest, fp32, int8)}
    assert len(built[int8]) < 0.27 * len(built[fp32])
    content = bytearray(built[int8])
    content[len(content) // 2] ^= 1
    int8.write_bytes(content)
    fp32.unlink()
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    processes = [
        subprocess.Popen([sys.executable, "-c", ENSURE_ARTIFACT], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=200)[0].splitlines() for process in processes]
    assert {lines[-1] for lines in answers} == {read_artifact(int8).model_id}
    assert sum("is damaged in the cache: building it" in line for lines in answers for line in lines) == 1
    assert {path: path.read_bytes() for path in built} == built


def test_an_int8_file_without_its_fp32_form_is_checked_once_and_refused_where_the_arithmetic_is_inexact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    calibration = candidate_calibrations(small_network(), Photos(images(), "generated"))[0]
    int8 = tmp_path / "int8.onnx"
    int8.write_bytes(int8_artifact(small_network(), calibration, Recipe("portable")))
    notices: list[str] = []
    assert ensure_artifact(str(int8), notices.append).path == int8
    assert len(notices) == 1
    assert "the agreement of its labels with fp32 was not" in notices[0]
    (measured,) = (tmp_path / "cache/label-dir/models/certificates").iterdir()
    assert float(measured.read_text()) < 0.01
    measured.write_text("0.076")
    with pytest.raises(InputMissingError, match=r"relative error 7\.6%, at most 1\.0% allowed"):
        ensure_artifact(str(int8), notices.append)


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x0a\x3a\xff\xff\xff"], ids=["empty", "text", "cut off"])
def test_a_file_that_is_no_artifact_is_reported_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(InputMissingError, match=r"is damaged or no ONNX file|is no model built by label-models"):
        read_artifact(tmp_path / "x.onnx")


def test_reading_the_description_of_an_artifact_imports_neither_torch_nor_onnx_nor_onnxruntime(
    default_model_cache: dict[str, str],
) -> None:
    heavy = "; print(sorted({'torch', 'onnx', 'onnxruntime', 'numpy'} & set(sys.modules)))"
    command = [sys.executable, "-c", ENSURE_ARTIFACT + heavy]
    environment = {**os.environ, **default_model_cache}
    # The first process may still measure the engines of the model.
    subprocess.run(command, env=environment, check=True, capture_output=True)
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.fixture(scope="module")
def torch_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The fp32 artifact of one of torchvision's small models with random weights, and its state dict."""
    folder = tmp_path_factory.mktemp("small")
    fp32, state = prepare_network(print, Origin("small", "shufflenet_v2_x0_5", random=True), folder)
    return folder / fp32, folder / state


def test_every_torch_engine_gives_the_probabilities_of_fp32(torch_model: tuple[Path, Path]) -> None:
    fp32, _ = torch_model
    photos = generated_images(12, 224, 8)
    wanted = load_engine("onnxruntime-fp32", fp32, 1, 3).classify(photos)
    for engine in [name for name, kind in ENGINES.items() if kind == "torch"]:
        given = load_engine(engine, fp32, 1, 3).classify(photos)
        assert given.ids.shape == wanted.ids.shape
        assert abs(given.probabilities - wanted.probabilities).max() < 0.01, engine


def test_the_weights_of_torchs_int8_are_loaded_to_the_bit_and_take_less_than_half_the_bytes(
    torch_model: tuple[Path, Path],
) -> None:
    fp32, state = torch_model
    artifact = read_artifact(fp32)
    digest = write_torch_int8(print, fp32, "torch-int8", generated_images(8, 224, 8))
    path = fp32.parent / torch_int8_name(artifact, "torch-int8")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    first, second = (load_torch_int8(artifact, "torch-int8").state_dict() for _ in range(2))
    assert list(first) == list(second)
    assert path.stat().st_size < 0.4 * state.stat().st_size
    photos = generated_images(4, 224, 9)
    answers = [load_engine("torch-int8", fp32, 1, 3).classify(photos) for _ in range(2)]
    assert (answers[0].probabilities == answers[1].probabilities).all()
