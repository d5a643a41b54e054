"""int8 models agree with fp32, give the same ids in any batch, and a bad quantization is measurable."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest

from models.artifact import read_artifact
from models.classifier import Classifier
from models.errors import ModelError
from models.networks.graph import fingerprint
from models.quantization.agreement import agreement, logits_of, relative_error
from models.quantization.artifact_builder import fp32_artifact, int8_artifact
from models.quantization.calibrate import calibrate, candidate_calibrations
from models.quantization.calibration_table import Calibration
from models.quantization.quantize import Recipe
from models.quantization.weight_rounding import WeightRange
from models.samples import Photos
from models.spec import Preprocessing
from tests.support.networks import MIDDLE, PER_CHANNEL, images, small_network


def calibration(preprocessing: Preprocessing = MIDDLE) -> Calibration:
    return candidate_calibrations(small_network(preprocessing), Photos(images(), "generated"))[0]


@pytest.mark.parametrize("preprocessing", [MIDDLE, PER_CHANNEL], ids=["photo is the tensor", "normalised first"])
@pytest.mark.parametrize("weight_range", ["portable", "full", "reduced"])
def test_int8_agrees_with_fp32_on_images_that_did_not_calibrate_it(
    preprocessing: Preprocessing, weight_range: WeightRange
) -> None:
    network, unseen = small_network(preprocessing), images(64, seed=2)
    int8 = int8_artifact(network, calibration(preprocessing), Recipe(weight_range))
    reference = logits_of(fp32_artifact(network), unseen, 1)
    assert relative_error(logits_of(int8, unseen, 1), reference) < 0.01
    assert agreement(logits_of(int8, unseen, 1), reference).top1 >= 0.9


def test_every_layer_runs_in_int8_and_the_photo_itself_is_the_first_tensor() -> None:
    model = onnx.load_from_string(int8_artifact(small_network(), calibration(), Recipe("portable")))
    producers = {name: node for node in model.graph.node for name in node.output}
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm", "Add", "GlobalAveragePool")]
    assert len(layers) == 6
    assert all(producers[name].op_type == "DequantizeLinear" for node in layers for name in node.input)
    assert not [node for node in model.graph.node if node.op_type in ("Clip", "Cast", "Sub", "Mul")]


def test_the_model_is_plain_onnx_that_a_checker_accepts() -> None:
    for content in (
        int8_artifact(small_network(), calibration(), Recipe("portable")),
        fp32_artifact(small_network()),
    ):
        model = onnx.load_from_string(content)
        onnx.checker.check_model(model, full_check=True)
        assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}


def test_no_machine_path_and_no_exporters_names_are_left_in_the_file() -> None:
    content = fp32_artifact(small_network())
    assert b"stack_trace" not in content
    assert b"site-packages" not in content
    assert str(Path(__file__).parent).encode() not in content


def test_portable_weights_cannot_overflow_an_int16_where_kernels_add_two_products() -> None:
    model = onnx.load_from_string(int8_artifact(small_network(), calibration(), Recipe("portable")))
    weights = [
        onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name.endswith(".weight")
    ]
    assert len(weights) == 4
    adding = [tensor.astype(int) for tensor in weights if tensor.shape[1:] != (1, 3, 3)]
    assert len(adding) == 3
    for tensor in adding:
        for rows in (tensor.reshape(len(tensor), -1), np.moveaxis(tensor, 1, -1).reshape(len(tensor), -1)):
            sums = rows[:, :-1] + rows[:, 1:]
            assert sums.max() * 255 < 2**15
            assert sums.min() * 255 >= -(2**15)


def test_a_layer_left_in_fp32_is_in_fp32_and_the_rest_is_not() -> None:
    network = small_network()
    first = network.graph.nodes[0].output[0]
    model = onnx.load_from_string(int8_artifact(network, calibration(), Recipe("portable", (first,))))
    kept = next(node for node in model.graph.node if node.op_type == "Conv")
    assert kept.input[1] in {item.name for item in model.graph.initializer if item.data_type == onnx.TensorProto.FLOAT}
    exact = logits_of(fp32_artifact(network), images(), 1)
    left = logits_of(model.SerializeToString(), images(), 1)
    assert relative_error(left, exact) < 0.01


def test_ranges_from_grey_images_give_logits_that_do_not_agree() -> None:
    network = small_network()
    grey = Photos(np.full_like(images()[:4], 128), "grey")
    bad = int8_artifact(network, candidate_calibrations(network, grey)[0], Recipe("portable"))
    reference = logits_of(fp32_artifact(network), images(), 1)
    assert relative_error(logits_of(bad, images(), 1), reference) > 0.02


def test_the_calibration_that_is_kept_is_the_one_nearest_to_fp32() -> None:
    best, divergences = calibrate(small_network(), Photos(images(), "generated"), 1)
    assert set(divergences) == {"min-max", "percentile", "entropy"}
    assert divergences[best.method] == min(divergences.values())


def test_a_calibration_of_another_graph_is_refused() -> None:
    other = dataclasses.replace(calibration(), fingerprint="Conv:1")
    with pytest.raises(ModelError, match="measured on another graph"):
        int8_artifact(small_network(), other, Recipe("portable"))
    assert calibration().fingerprint == fingerprint(small_network().graph)


def test_a_calibration_is_read_from_its_json_as_it_was_written() -> None:
    assert Calibration.from_json(calibration().to_json()) == calibration()


def test_the_bias_of_a_channel_of_almost_zero_weights_does_not_overflow() -> None:
    network = small_network()
    name = network.graph.nodes[0].input[1]
    weights = network.graph.constants[name].copy()
    weights[0] = 1e-30
    constants = {**network.graph.constants, name: weights}
    dead = dataclasses.replace(network, graph=dataclasses.replace(network.graph, constants=constants))
    content = int8_artifact(dead, candidate_calibrations(dead, Photos(images(), ""))[0], Recipe("full"))
    reference = logits_of(fp32_artifact(dead), images(), 1)
    assert relative_error(logits_of(content, images(), 1), reference) < 0.01


def test_answers_do_not_depend_on_batch_size_threads_or_how_many_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "small.onnx"
    path.write_bytes(int8_artifact(small_network(), calibration(), Recipe("portable")))
    alone = Classifier(path, 1, 5)
    one_by_one = [alone.classify(images()[i : i + 1]) for i in range(len(images()))]
    monkeypatch.setattr("models.classifier._PHOTO_BY_PHOTO_BYTES", 0)
    for together in (alone.classify(images()), Classifier(path, 2, 3).classify(images())):
        assert together.ids.dtype == np.int32
        assert together.probabilities.dtype == np.float32
        assert together.familiarity.shape == (len(images()),)
        assert (together.ids[:, :3] == np.concatenate([one.ids for one in one_by_one])[:, :3]).all()
        probabilities = np.concatenate([one.probabilities for one in one_by_one])
        assert (together.probabilities[:, :3] == probabilities[:, :3]).all()
        assert (np.diff(together.probabilities, axis=1) <= 0).all()


def test_an_artifact_holds_its_whole_description(tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    path.write_bytes(int8_artifact(small_network(), calibration(), Recipe("portable"), {"photos": 3}))
    artifact = read_artifact(path)
    assert artifact.labels == small_network().labels
    assert artifact.preprocessing == MIDDLE
    assert artifact.precision == "int8"
    assert artifact.model_id.startswith("small@")
    assert artifact.calibration["ranges"]
    assert artifact.validation == {"photos": 3}
