"""The engine of OpenVINO: the same artifact as onnxruntime's, compiled for this CPU; nothing is sent or logged."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.artifact import Artifact, read_artifact
from models.classifier import Pixels, TopK
from models.engines import check_installed
from models.engines.blob_cache import blob_path, read_blob, write_blob
from models.errors import InputMissingError

_IMAGES_PER_RUN = 8
# `import openvino` runs these, which send usage data and keep an identifier in the home folder. It works without them.
_TELEMETRY = ("openvino_telemetry", "openvino.tools.ovc")


class OpenVinoClassifier:
    """An Engine: one compiled model, which runs on the calling thread and, with more `threads`, on others beside it."""

    def __init__(self, artifact_path: Path, threads: int, top_k: int):
        """Load the artifact from its compiled form, which is made where it is missing.

        `top_k` is at most the number of classes. The threads run on the CPUs to which the caller is pinned. Raises
        InputMissingError where the file describes another number of labels than its network has classes.
        """
        artifact = read_artifact(artifact_path)
        self._request = _compiled(artifact, threads, top_k).create_infer_request()
        self._side = artifact.preprocessing.crop.crop_size
        outputs = self._request.model_outputs
        self._has_familiarity = any("familiarity" in output.get_names() for output in outputs)

    def warm_up(self, batch_size: int) -> None:
        """Classify black images, so that the first real batch takes no longer than the next ones."""
        self.classify(np.zeros((batch_size, self._side, self._side, 3), np.uint8))

    def classify(self, pixels: Pixels) -> TopK:
        """The k likeliest classes of each photo; `pixels` uint8 [n, side, side, 3] RGB."""
        self._run(pixels)
        ids = self._output("ids").astype(np.int32)
        familiarity = self._output("familiarity").copy() if self._has_familiarity else np.ones(len(ids), np.float32)
        return TopK(ids, self._output("probabilities").copy(), familiarity)

    def logits(self, pixels: Pixels) -> npt.NDArray[np.float32]:
        """Logits float32 [n, classes] of uint8 [n, side, side, 3], n > 0, from an artifact that has them."""
        parts = []
        for start in range(0, len(pixels), _IMAGES_PER_RUN):
            self._run(pixels[start : start + _IMAGES_PER_RUN])
            parts.append(self._output("logits").copy())
        return np.concatenate(parts)

    def _run(self, pixels: Pixels) -> None:
        # Shared: the request reads the pixels where they are, which must lie in one piece.
        self._request.infer({"photos": np.ascontiguousarray(pixels)}, share_inputs=True)

    def _output(self, name: str) -> npt.NDArray[Any]:
        """An output where the request keeps it, until the next run."""
        array: npt.NDArray[Any] = self._request.get_tensor(name).data
        return array


def _openvino() -> Any:
    """The package without its telemetry. Raises UsageError where it is not installed."""
    for name in _TELEMETRY:
        # None makes an import fail with ImportError.
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    check_installed("openvino")
    import openvino

    return openvino


def _compiled(artifact: Artifact, threads: int, top_k: int) -> Any:
    openvino = _openvino()
    core = openvino.Core()
    options: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
    if artifact.precision == "fp32":
        # Else bfloat16, on CPUs that have it.
        options["INFERENCE_PRECISION_HINT"] = "f32"
    # The compiled form depends on what this CPU can do with floats, too.
    able = sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    path = blob_path(artifact, "openvino", openvino.get_version().split("-")[0], top_k, able, sorted(options))
    blob = None if path is None else read_blob(path)
    if blob is not None:
        # OpenVINO refuses a form that another build of the same version made.
        with contextlib.suppress(RuntimeError):
            return core.import_model(io.BytesIO(blob), "CPU", options)
    model = core.read_model(artifact.path)
    _set_top_k(openvino, artifact, model, top_k)
    compiled = core.compile_model(model, "CPU", options)
    if path is not None:
        write_blob(path, compiled.export_model().getvalue())
    return compiled


def _set_top_k(openvino: Any, artifact: Artifact, model: Any, top_k: int) -> None:
    """Make the graph answer k classes: OpenVINO takes the default of the input "k" for a constant. Raises
    InputMissingError where the file describes another number of labels than its network has classes."""
    node = next(operation for operation in model.get_ops() if operation.get_type_name() == "TopK")
    classes = node.input_value(0).get_partial_shape()[1]
    if classes.is_static and classes.get_length() != len(artifact.labels):
        count = classes.get_length()
        raise InputMissingError(f"it describes {len(artifact.labels)} labels, and its network has {count} classes")
    node.input(1).replace_source_output(openvino.opset13.constant(np.array(top_k, np.int64)).output(0))
    model.validate_nodes_and_infer_types()
