"""Resizing by torch's C interface, without importing torch, gives the same pixels as by Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.artifact import Artifact
from models.spec import Interpolation
from pipeline.decoding import torch_resize as libtorch
from pipeline.decoding.torch_resize import LibTorch, Pixels, resize, resize_by_python
from tests.conftest import run_label_dir, write_photos

# A torch whose shared library cannot be loaded through ctypes.
WITHOUT_C_INTERFACE = """
import ctypes

class Refusing(ctypes.CDLL):
    def __init__(self, name, *arguments, **options):
        if str(name).endswith("libtorch_cpu.so"):
            raise OSError("refused by the test")
        super().__init__(name, *arguments, **options)

ctypes.CDLL = Refusing
"""
SIZES = [(1, 1), (1, 300), (37, 2), (224, 224), (225, 223), (328, 328), (448, 333), (447, 896)]


@pytest.fixture
def chosen_again() -> Iterator[None]:
    libtorch._implementation.cache_clear()
    yield
    libtorch._implementation.cache_clear()


def noise(height: int, width: int) -> Pixels:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("side", [1, 224, 300])
def test_the_c_interface_gives_the_pixels_that_python_gives(side: int, interpolation: Interpolation) -> None:
    by_c = LibTorch()
    for size in SIZES:
        pixels = noise(*size)
        expected = resize_by_python(pixels, side, interpolation)
        assert np.array_equal(by_c.resize(pixels, side, interpolation), expected), size


def test_pixels_that_are_not_contiguous_are_resized_like_a_copy() -> None:
    every_second = noise(100, 100)[::2, ::2]
    assert np.array_equal(resize(every_second, 30, "bicubic"), resize(every_second.copy(), 30, "bicubic"))


@pytest.mark.parametrize("what_is_missing", [OSError("no such library"), AttributeError("no such function")])
def test_a_torch_without_the_c_interface_is_imported_with_a_warning(
    what_is_missing: Exception, chosen_again: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing() -> LibTorch:
        raise what_is_missing

    monkeypatch.setattr(libtorch, "LibTorch", missing)
    assert libtorch._implementation() is resize_by_python
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"({what_is_missing}); importing all of torch takes 2 s and half a gigabyte" in record.getMessage()
    assert resize(noise(50, 60), 20, "bicubic").shape == (20, 20, 3)


def test_a_refused_call_is_an_error_and_no_pixels() -> None:
    with pytest.raises(OSError, match="torch refused a call"):
        LibTorch().resize(noise(5, 5), -1, "bicubic")


def test_a_user_of_label_dir_sees_that_the_slow_resize_is_used(tmp_path: Path, tiny_model: Artifact) -> None:
    """Case 41."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_C_INTERFACE)
    write_photos(tmp_path / "photos", 3)
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = run_label_dir(tiny_model, "photos", "out.csv", cwd=tmp_path, env=environment)
    first, *others = done.stderr.splitlines()
    assert first.startswith(
        "label-dir: torch's C interface cannot be used (refused by the test); importing all of torch"
    )
    assert [line for line in others if "Warning" in line] == []
    assert done.returncode == 0
