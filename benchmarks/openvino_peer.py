"""The strongest peer: NNCF's int8 of the same weights, run by OpenVINO's asynchronous requests, as benchmark_app does.

    python benchmarks/openvino_peer.py fp32.onnx photos/ int8.xml

quantizes beforehand, which peers.py does not time. Neither package sends usage data from here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import click

_CALIBRATION_PHOTOS = 300
_DECODED_AHEAD = 32
_TELEMETRY = ("openvino_telemetry", "openvino.tools.ovc")
_PATH = click.Path(exists=True, path_type=Path)


def pixels_of(photo: Path | str) -> Any:
    """The centre square of a photo by Pillow, uint8 [224, 224, 3] RGB."""
    import numpy as np
    from PIL import Image

    with Image.open(photo) as image:
        width, height = image.size
        side = min(width, height) * 224 / 256
        box = ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)
        return np.asarray(image.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC, box=box))


def nncf_labels(photos: list[str], model: Path, top_k: int) -> Iterator[tuple[str, list[int]]]:
    """Labels of photos, in their order: a thread for each core decodes, as many requests as OpenVINO chooses are under
    way, one photo each; the compiled model is kept beside the model's file."""
    openvino = _without_telemetry()
    core = openvino.Core()
    core.set_property({"CACHE_DIR": str(model.parent / "compiled")})
    compiled = core.compile_model(str(model), "CPU", {"PERFORMANCE_HINT": "THROUGHPUT"})
    queue = openvino.AsyncInferQueue(compiled)
    labels: dict[int, list[int]] = {}

    def take(request: Any, index: int) -> None:
        labels[index] = request.get_tensor("ids").data[0, :top_k].tolist()

    queue.set_callback(take)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for index, pixels in enumerate(_ahead(threads, pixels_of, photos)):
            queue.start_async({"photos": pixels[None]}, index)
        queue.wait_all()
    return zip(photos, (labels[index] for index in range(len(photos))), strict=True)


def _ahead(threads: ThreadPoolExecutor, function: Callable[[str], Any], photos: list[str]) -> Iterator[Any]:
    """The results of `function` in order, of which a few are made ahead: all pixels would not fit into memory."""
    rest = iter(photos)
    under_way = [threads.submit(function, photo) for photo in islice(rest, _DECODED_AHEAD)]
    while under_way:
        yield under_way.pop(0).result()
        under_way += [threads.submit(function, photo) for photo in islice(rest, 1)]


def _without_telemetry() -> Any:
    for name in _TELEMETRY:
        # None makes an import fail with ImportError, which both packages expect.
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    import openvino

    return openvino


@click.command()
@click.argument("fp32", type=_PATH)
@click.argument("photos", type=_PATH)
@click.argument("int8", type=click.Path(path_type=Path))
def quantize(fp32: Path, photos: Path, int8: Path) -> None:
    """Quantize label-dir's own FP32 file by NNCF's defaults, calibrated with PHOTOS, into OpenVINO's files INT8."""
    openvino = _without_telemetry()
    import nncf

    model = openvino.Core().read_model(str(fp32))
    found = sorted(path for path in photos.iterdir() if path.is_file())[:_CALIBRATION_PHOTOS]
    dataset = nncf.Dataset(found, lambda photo: {"photos": pixels_of(photo)[None]})
    quantized = nncf.quantize(model, dataset)
    openvino.save_model(quantized, str(int8))


if __name__ == "__main__":
    quantize()
