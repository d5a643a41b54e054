"""Finds of fuzzing the files of models: each is one sentence, or counts as missing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models.artifact import METADATA_FIELD, read_artifact
from models.errors import InputMissingError
from models.networks.checkpoint import read_checkpoint
from models.teaching.memory_file import read_memory
from pipeline.planning.tuning_cache import read_tuned
from tests.models.test_odd_models import odd_model
from tests.support.tiny_model import write_tiny_model


@pytest.mark.parametrize(
    "changed",
    [
        {"labels": '["\\ud800", "b", "c", "d", "e", "f", "g", "h"]'},
        {"source": '{"told": "\\udcff"}'},
        {"source": '{"teaching": {"min_probability": 1' + "0" * 400 + "}}"},
    ],
)
def test_a_description_that_no_table_could_hold_is_refused(tmp_path: Path, changed: dict[str, str]) -> None:
    """Half a surrogate pair in a label was a traceback at the first row with that label."""
    with pytest.raises(InputMissingError, match=r"odd\.onnx is damaged: its description cannot be read"):
        read_artifact(odd_model(tmp_path, changed))


def test_a_metadata_entry_without_a_key_is_refused(tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "tiny.onnx").path
    # A field 14 of three bytes: the field 2, one byte long, "x".
    path.write_bytes(path.read_bytes() + bytes([METADATA_FIELD << 3 | 2, 3, 2 << 3 | 2, 1]) + b"x")
    with pytest.raises(InputMissingError, match=r"tiny\.onnx is damaged or no ONNX file"):
        read_artifact(path)


@pytest.mark.parametrize("content", [b"s", b"t", b"q", b"r", b"PK\3\4", b"]q\1.", b"\x80\x02}q\x00."])
def test_weights_that_are_no_file_of_torch_are_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(InputMissingError, match=r"the weights .*weights\.pt (are truncated|hold no tensors)"):
        read_checkpoint(path)


@pytest.mark.parametrize("sizes", ["[" * 100_000, '{"pool": true, "threads": 1, "workers": 1, "batch_size": 1}'])
def test_odd_tuned_sizes_count_as_not_tuned(tmp_path: Path, sizes: str) -> None:
    path = tmp_path / "tuned.json"
    path.write_text(sizes)
    assert read_tuned(path) is None
    path.write_text(json.dumps({"pool": 2**31, "threads": 1, "workers": 1, "batch_size": 1}))
    assert read_tuned(path) is None


@pytest.mark.parametrize("told", [b"[" * 100_000, b"[]", b'{"answers": []}'])
def test_an_odd_memory_of_a_taught_model_counts_as_missing(tmp_path: Path, told: bytes) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, told=np.frombuffer(told, np.uint8), features=np.zeros((1, 2)), base_features=np.zeros((1, 2)))
    assert read_memory(path) is None
