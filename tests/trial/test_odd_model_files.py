"""Files of models may hold anything: they are used, built or measured again, or refused in one sentence."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.artifact import METADATA_FIELD, metadata_of, read_artifact
from models.certification.certificate import read_certificate
from models.label_file import read_labels
from models.manifest import built_models, cache_folder, read_manifest
from models.networks.checkpoint import read_checkpoint
from models.quantization.calibration_table import Calibration
from models.teaching.memory_file import Remembered, known_rows, read_memory, write_memory
from pipeline.planning.plan import Settings, Sizes, plan_for
from pipeline.planning.tuning_cache import read_tuned
from pipeline.records import Row
from pipeline.system.cpus import this_machine
from pipeline.tables.schema import to_batch
from tests.models.test_odd_models import PASSED
from tests.support.tiny_model import write_tiny_model
from tests.trial.damage import ODD_TEXTS, damaged, examples, odd_json, refused


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    end = bytes([value & 127 | (128 if value > 127 else 0)])
    return end if value < 128 else end + _varint(value >> 7)


@st.composite
def odd_artifacts(draw: st.DrawFn, graph: bytes, entries: dict[str, str]) -> bytes:
    """Draw a model file some of whose entries are others, or that is damaged as a whole."""
    pairs = {name.encode(): text.encode() for name, text in entries.items()}
    for name in draw(st.lists(st.sampled_from(sorted(entries)), max_size=3)):
        document = None if name in ("format", "name", "precision") else json.loads(entries[name])
        texts = ODD_TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass"))
        pairs[name.encode()] = draw(texts if document is None else odd_json(document))
    raw = [_field(1, name) + _field(2, text) for name, text in pairs.items()]
    raw += draw(st.lists(st.sampled_from([b"", _field(2, b"x"), _field(1, b"\xff"), b"\x0a\x05a"]), max_size=1))
    content = graph + b"".join(_field(METADATA_FIELD, entry) for entry in raw)
    return draw(damaged(content)) if draw(st.integers(0, 3)) == 0 else content


@examples(400)
@given(data=st.data())
def test_a_model_file_of_odd_metadata_is_a_model_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "odd.onnx"
    tiny = write_tiny_model(path)
    model = onnx.load(path)
    source = {"weights": "x", "teaching": {"min_probability": 0.5, "min_familiarity": 0.0}}
    entries = {**metadata_of(tiny), "source": json.dumps(source)}
    del model.metadata_props[:]
    path.write_bytes(data.draw(odd_artifacts(model.SerializeToString(), entries)))

    def use() -> None:
        artifact = read_artifact(path)
        assert 0 <= artifact.thresholds.min_probability < 1e308 or artifact.thresholds.min_probability < 0
        labels = artifact.labels[:3]
        row = Row("a", None, labels, (0.5,) * len(labels), 1, 1, 1, 1, "", artifact.model_id, 1)
        to_batch([row], len(labels)).validate(full=True)
        metadata_of(artifact)

    refused(use)


JSON_FILES: dict[str, tuple[Any, Callable[[Path], object]]] = {
    "certificate": (
        asdict(PASSED),
        lambda path: (found := read_certificate(path)) and (found.verdict(), found.lines(), found.passed),
    ),
    "manifest": (
        {
            "recipe": "",
            "int8": f"x-int8-{'0' * 12}.onnx",
            "fp32": f"x-fp32-{'0' * 12}.onnx",
            "state": f"x-torch-{'0' * 12}.pt",
            "calibration": f"x-calibration-{'0' * 12}.json",
        },
        lambda path: ((found := read_manifest("x")) and found.files, built_models()),
    ),
    "tuned sizes": (asdict(Sizes(1, 2, 3, 4)), lambda path: plan_for(this_machine(), Settings(), read_tuned(path))),
}


@pytest.mark.parametrize("kind", JSON_FILES)
@examples(150)
@given(data=st.data())
def test_a_file_of_the_model_cache_is_used_or_counts_as_missing(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    document, use = JSON_FILES[kind]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        path = cache_folder() / "x.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.draw(odd_json(document)))
        use(path)


@examples(150)
@given(data=st.data())
def test_odd_calibration_figures_are_a_value_error(data: st.DataObject) -> None:
    valid = Calibration("f", "photos", 3, "max", {"a": (0.0, 1.0)}, {"a": (0.5,)}, {"top1": 1.0}, ("0" * 12,))
    content = data.draw(odd_json(json.loads(valid.to_json())))
    refused(lambda: Calibration.from_json(content.decode("utf-8", "replace")), ValueError)


def _remembered() -> Remembered:
    features = np.zeros((2, 4), np.float32)
    return Remembered(
        fp32=f"x-fp32-{'0' * 12}.onnx",
        base="efficientnet_lite0",
        labels=("a", "b"),
        digests=("d1", "d2"),
        base_features=features,
        features=features,
        temperature=1.5,
        held_out=("d2",),
        answers={"d2": ("a", "b")},
    )


@examples(200)
@given(data=st.data())
def test_the_memory_of_a_taught_model_is_used_or_counts_as_missing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "x.npz"
    write_memory(path, _remembered())
    with np.load(path) as file:
        told, features = json.loads(file["told"].tobytes()), file["features"]
    if data.draw(st.booleans()):
        content = data.draw(odd_json(told))
        odd = data.draw(
            st.sampled_from([features, features[:1], features[0], features.astype("S4"), features * np.nan])
        )
        np.savez(path, told=np.frombuffer(content, np.uint8), base_features=odd, features=features)
    else:
        path.write_bytes(data.draw(damaged(path.read_bytes())))
    found = read_memory(path)
    if found is not None:
        _, places = known_rows(("d1", "d2", "d3"), found)
        for kept in (found.base_features, found.features):
            assert np.isfinite(kept[places]).all()
            assert kept.ndim == 2
        assert found.temperature > 0
        assert all(isinstance(text, str) for text in (*found.labels, *found.digests, *found.held_out))


@examples(100)
@given(content=st.one_of(st.binary(max_size=40), ODD_TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass"))))
def test_a_file_of_labels_is_labels_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "labels.txt"
    path.write_bytes(content)
    refused(lambda: read_labels(path))


@examples(60)
@given(data=st.data())
def test_a_file_of_weights_is_weights_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    stream = io.BytesIO()
    torch.save({"state_dict": {"a": torch.zeros(3), "b": torch.ones(2, 2)}}, stream)
    path = tmp_path_factory.getbasetemp() / "weights.pt"
    path.write_bytes(data.draw(damaged(stream.getvalue())))
    refused(lambda: read_checkpoint(path))
