"""A good int8 model is certified; a bad one is not, and the certificate says why in figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.certification.certificate import read_certificate, write_certificate
from models.certification.certify import Terms, certify
from models.quantization.artifact_builder import fp32_artifact, int8_artifact
from models.quantization.calibrate import candidate_calibrations
from models.quantization.quantize import Recipe
from models.quantization.recipes import recipes
from models.samples import Photos
from models.system.cpu_kind import CpuKind, cpu_kind
from tests.support.certificates import passed_certificate
from tests.support.networks import images, small_network

QUICK = Terms(rounds=1, batch_size=4)
HASWELL = """
processor\t: 0
model name\t: Intel(R) Core(TM) i5-4570 CPU @ 3.20GHz
flags\t\t: fpu sse4_1 avx2 bmi2
"""
SAPPHIRE_RAPIDS = HASWELL.replace("bmi2", "avx512f avx512_vnni amx_int8")


def test_a_certificate_passes_only_with_agreement_speed_and_exact_arithmetic() -> None:
    assert passed_certificate().passed
    assert "agreement 96.0% is below 97.0%" in passed_certificate(top1_agreement=0.96).verdict()
    assert "0.50 times" in passed_certificate(int8_images_per_s=50.0).verdict()
    assert "relative error 5.0%" in passed_certificate(arithmetic_error=0.05).verdict()


def test_a_certificate_is_read_from_its_file_as_it_was_written(tmp_path: Path) -> None:
    write_certificate(tmp_path / "c.json", passed_certificate())
    assert read_certificate(tmp_path / "c.json") == passed_certificate()
    (tmp_path / "c.json").write_text("{}")
    assert read_certificate(tmp_path / "c.json") is None


@pytest.fixture
def fp32_path(tmp_path: Path) -> Path:
    path = tmp_path / "fp32.onnx"
    path.write_bytes(fp32_artifact(small_network()))
    return path


def test_a_measured_certificate_has_all_figures(tmp_path: Path, fp32_path: Path) -> None:
    calibration = candidate_calibrations(small_network(), Photos(images(), "generated"))[0]
    int8_path = tmp_path / "int8.onnx"
    int8_path.write_bytes(int8_artifact(small_network(), calibration, Recipe("portable")))
    classes = np.zeros(32, np.int64)
    photos = Photos(images(32, seed=5), "32 photos of nothing", classes=classes)
    found = certify(print, int8_path, fp32_path, photos, QUICK)
    assert found.top1_agreement >= 0.9
    assert found.arithmetic_error < 0.01
    assert found.int8_top1 is not None
    assert min(found.int8_images_per_s, found.fp32_images_per_s) > 0
    assert found.int8_bytes == int8_path.stat().st_size
    assert 10e6 < found.int8_resident_bytes < 160e6
    assert found.images == "32 photos of nothing"


def test_a_model_calibrated_on_grey_images_is_not_certified_and_the_verdict_has_the_figure(
    tmp_path: Path, fp32_path: Path
) -> None:
    grey = Photos(np.full_like(images()[:4], 128), "grey")
    content = int8_artifact(small_network(), candidate_calibrations(small_network(), grey)[0], Recipe("portable"))
    (tmp_path / "int8.onnx").write_bytes(content)
    found = certify(print, tmp_path / "int8.onnx", fp32_path, Photos(images(64, seed=5), "64 images"), QUICK)
    assert not found.passed
    assert f"agreement {found.top1_agreement:.1%} is below 97.0%" in found.verdict()


def test_full_range_weights_are_tried_only_on_cpus_whose_kernels_do_not_saturate() -> None:
    network = small_network()
    calibration = candidate_calibrations(network, Photos(images(), "generated"))[0]
    tried = {
        saturates: list(recipes(network, calibration, images(), kind, 1))
        for saturates, kind in ((True, cpu_kind(HASWELL, "x86_64")), (False, cpu_kind(SAPPHIRE_RAPIDS, "x86_64")))
    }
    assert tried[True][0] == tried[False][0] == Recipe("portable")
    assert "full" not in {recipe.weight_range for recipe in tried[True]}
    assert tried[False][1] == Recipe("full")
    assert len(tried[True][-1].float_nodes) > len(tried[True][-2].float_nodes) > 0


def test_the_kind_of_a_cpu_is_read_from_cpuinfo() -> None:
    old, new = cpu_kind(HASWELL, "x86_64"), cpu_kind(SAPPHIRE_RAPIDS, "x86_64")
    assert old == CpuKind("Intel(R) Core(TM) i5-4570 CPU @ 3.20GHz", "x86_64", ("sse4_1", "avx2"))
    assert (old.saturates, new.saturates, cpu_kind("", "aarch64").saturates) == (True, False, False)
    assert old.key != new.key
