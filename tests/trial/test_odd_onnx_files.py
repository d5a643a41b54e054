"""A foreign ONNX file may hold anything: `label-models import` makes a network of it or refuses it in one sentence."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from jobs.workshop import building
from jobs.workshop.building import import_onnx
from jobs.workshop.options import QuantizationOptions
from models.errors import ExitCode, InputMissingError, LabelDirError
from models.networks.onnx_import import ImportRequest, imported_network
from models.quantization.artifact_builder import fp32_artifact
from models.spec import Crop, Normalisation, Preprocessing
from models.system.isolated_call import Notify, isolated_call
from pipeline.system.process_map import process_map
from tests.trial.damage import SCRATCH, damaged, examples

SIDE, CLASSES = 8, 3
LABELS = ("a", "b", "c")
PREPROCESSING = Preprocessing(Crop(9, SIDE, "bilinear"), Normalisation((0.0,) * 3, (255.0,) * 3))
_OPERATORS = ["Relu", "Conv", "Softmax", "Identity", "Dropout", "ReduceMean", "Reshape", "Flatten", "Constant", "TopK"]
_OPERATORS += [
    "Loop",
    "If",
    "Shape",
    "Cast",
    "NonZero",
    "Upsample",
    "BatchNormalization",
    "QuantizeLinear",
    "Fo\no",
    "",
]
_NUMBERS = st.sampled_from([-1, 0, 1, 2, 3, 16, 2**31, 2**40, 2**62])


def _valid_model() -> onnx.ModelProto:
    generator = np.random.default_rng(0)
    shapes = {"conv.weight": (4, 3, 3, 3), "conv.bias": (4,), "head.weight": (CLASSES, 4), "head.bias": (CLASSES,)}
    tensors = [
        numpy_helper.from_array(generator.normal(size=shape).astype(np.float32), name) for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["image", "conv.weight", "conv.bias"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("ReduceMean", ["r"], ["m"], axes=[2, 3], keepdims=1),
        helper.make_node("Flatten", ["m"], ["f"], axis=1),
        helper.make_node("Gemm", ["f", "head.weight", "head.bias"], ["scores"], transB=1),
        helper.make_node("Softmax", ["scores"], ["out"], axis=1),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", CLASSES])
    graph = helper.make_graph(nodes, "g", [image], [out], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _change_node(draw: st.DrawFn, model: onnx.ModelProto) -> None:
    node = draw(st.sampled_from(list(model.graph.node)))
    names = st.sampled_from(["", "image", "c", "out", "nowhere", "conv.weight"])
    kind = draw(st.integers(0, 7))
    if kind == 0:
        node.op_type = draw(st.sampled_from(_OPERATORS))
    elif kind == 1:
        node.domain = draw(st.sampled_from(["com.microsoft", "my.company", "ai.onnx.ml", "\x1b[2J"]))
    elif kind == 2 and node.input:
        node.input[draw(st.integers(0, len(node.input) - 1))] = draw(names)
    elif kind == 3:
        node.input.append(draw(names))
    elif kind == 4:
        node.output[0] = draw(names)
    elif kind == 5:
        del node.attribute[:]
    elif kind == 6 and node.attribute:
        attribute = draw(st.sampled_from(list(node.attribute)))
        attribute.ints[:] = draw(st.lists(_NUMBERS, max_size=5))
        attribute.i = draw(_NUMBERS)
    else:
        model.graph.node.append(node)


def _change_tensor(draw: st.DrawFn, model: onnx.ModelProto) -> None:
    tensor = draw(st.sampled_from(list(model.graph.initializer)))
    kind = draw(st.integers(0, 6))
    if kind == 0:
        tensor.dims[:] = draw(st.lists(_NUMBERS, max_size=4))
    elif kind == 1:
        tensor.data_type = draw(st.integers(0, 30))
    elif kind == 2:
        tensor.raw_data = tensor.raw_data[: draw(st.integers(0, 9))]
    elif kind == 3:
        odd = draw(st.sampled_from([np.nan, np.inf, 3e38, 0]))
        tensor.raw_data = np.full(len(tensor.raw_data) // 4, odd, np.float32).tobytes()
    elif kind == 4:
        tensor.name = draw(st.sampled_from(["", "image", "out", "c", "\x1b[2J", "x" * 300]))
    elif kind == 5:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="/etc/hostname")
    else:
        model.graph.sparse_initializer.add().values.CopyFrom(tensor)
        model.graph.initializer.remove(tensor)


def _change_frame(draw: st.DrawFn, model: onnx.ModelProto) -> None:
    value = draw(st.sampled_from([*model.graph.input[:1], *model.graph.output[:1]]))
    kind = draw(st.integers(0, 6))
    if kind == 0:
        del model.opset_import[:]
    elif kind == 1 and model.opset_import:
        model.opset_import[0].version = draw(st.sampled_from([-1, 0, 1, 7, 9, 12, 13, 21, 24, 99, 2**40]))
    elif kind == 2:
        value.type.tensor_type.elem_type = draw(st.integers(0, 24))
    elif kind == 3:
        del value.type.tensor_type.shape.dim[draw(st.integers(0, 1)) :]
    elif kind == 4:
        value.type.sequence_type.elem_type.tensor_type.elem_type = TensorProto.FLOAT
    elif kind == 5:
        del model.graph.input[:]
    else:
        model.graph.output.append(value)


@st.composite
def odd_models(draw: st.DrawFn) -> bytes:
    """Draw an ONNX file that was changed in one to three places, or damaged as a whole."""
    model = _valid_model()
    if draw(st.integers(0, 3)) == 0:
        return draw(damaged(model.SerializeToString()))
    for _ in range(draw(st.integers(1, 3))):
        draw(st.sampled_from([_change_node, _change_tensor, _change_frame]))(draw, model)
    content: bytes = model.SerializeToString()
    return content


def _imported(path: str) -> str:
    """Return what import makes of a file: "a network", "refused", or what a user must never see."""
    try:
        fp32_artifact(imported_network(ImportRequest(Path(path), "odd", PREPROCESSING, LABELS)))
    except LabelDirError as error:
        is_sentence = error.exit_code != ExitCode.BUG and str(error).isprintable()
        return "refused" if is_sentence else f"{error.exit_code}: {error!r}"
    except BaseException as error:
        return f"a traceback: {type(error).__name__}: {error}"
    return "a network"


def test_an_odd_onnx_file_is_a_network_or_refused_in_a_sentence() -> None:
    contents: list[bytes] = []

    @examples(160)
    @given(odd_models())
    def collect(content: bytes) -> None:
        contents.append(content)

    collect()
    # All files go through one process, whose start takes longer than the files.
    with tempfile.TemporaryDirectory(prefix="trial-", dir=SCRATCH) as folder:
        paths = [Path(folder) / f"{number}.onnx" for number in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        ends = [end for _, end in process_map(_imported, map(str, paths), 1, 120.0)]
    # A file that ends the process (None) is refused by the command, as the test below shows.
    assert {"a network", "refused"} <= set(ends) <= {"a network", "refused", None}


def test_the_valid_file_is_a_network(tmp_path: Path) -> None:
    (tmp_path / "valid.onnx").write_bytes(_valid_model().SerializeToString())
    assert _imported(str(tmp_path / "valid.onnx")) == "a network"


def _crash(notify: Notify, *others: object) -> str:
    import os

    os.abort()


def test_a_file_that_ends_the_process_that_reads_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(building, "isolated_call", lambda function, *others: isolated_call(_crash, *others))
    request = ImportRequest(tmp_path / "my.onnx", "shelf", PREPROCESSING, LABELS)
    with pytest.raises(InputMissingError, match=r"my\.onnx cannot be imported: the process") as raised:
        import_onnx(request, QuantizationOptions(), lambda sentence: None)
    assert "\n" not in str(raised.value)


def test_no_file_is_read_that_an_onnx_file_names(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(np.ones(CLASSES, np.float32).tobytes())
    model = _valid_model()
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "head.bias")
    bias.ClearField("raw_data")
    bias.data_location = TensorProto.EXTERNAL
    bias.external_data.add(key="location", value=str(tmp_path / "secret"))
    model.graph.initializer.remove(bias)
    model.graph.node.insert(0, helper.make_node("Constant", [], ["head.bias"], value=bias))
    (tmp_path / "odd.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputMissingError, match="keeps tensors in other files"):
        imported_network(ImportRequest(tmp_path / "odd.onnx", "odd", PREPROCESSING, LABELS))
