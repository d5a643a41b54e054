"""An artifact of a few kilobytes that labels photos of 32 x 32 pixels by the colour nearest to their mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.artifact import Artifact, metadata_of, read_artifact
from models.spec import Crop, Normalisation, Preprocessing

SIDE = 32
COLOURS = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "cyan": (0, 255, 255),
    "magenta": (255, 0, 255),
}


def write_tiny_model(path: Path) -> Artifact:
    """The artifact, read from the file that this writes; its labels are the names in COLOURS."""
    colours = np.array(list(COLOURS.values()), np.float32)
    weights = {
        # The nearest colour c maximises 2 x.c - c.c; the scale only makes the probabilities readable.
        "direction": colours.T * (2 / 6000),
        "offset": -(colours**2).sum(axis=1) / 6000,
        "k": np.array([3], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["photos"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "direction"], ["product"]),
        helper.make_node("Add", ["product", "offset"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["softmax"], axis=1),
        helper.make_node("TopK", ["softmax", "k"], ["probabilities", "ids"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info("photos", TensorProto.UINT8, ["n", SIDE, SIDE, 3]),
            helper.make_tensor_value_info("k", TensorProto.INT64, [1]),
        ],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", "top"]),
            helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "top"]),
        ],
        [numpy_helper.from_array(value.astype(value.dtype), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    description = Artifact(
        path=path,
        name="tiny",
        sha256="",
        precision="fp32",
        preprocessing=Preprocessing(Crop(SIDE, SIDE, "bilinear"), Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))),
        labels=tuple(COLOURS),
        source={},
        calibration={},
        validation={},
    )
    helper.set_model_props(model, metadata_of(description))
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(str(path))
    return read_artifact(path)
