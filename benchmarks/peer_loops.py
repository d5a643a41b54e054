"""Other tools that label a folder of photos, each used as in its documentation; one process for each tool.

    python benchmarks/peer_loops.py timm photos/ out.csv

All run the same architecture with random weights, on which speed does not depend; only the plain onnxruntime loop runs
label-dir's own int8 file, and OpenVINO what NNCF made of label-dir's fp32 file.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from openvino_peer import nncf_labels, pixels_of

NNCF = "OpenVINO, NNCF int8"
_BATCH_SIZE = 16
_TOP_K = 3
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _write(out: Path, rows: Iterable[tuple[str, list[int]]]) -> None:
    with out.open("w", newline="") as stream:
        writer = csv.writer(stream)
        for name, labels in rows:
            writer.writerow([name, *labels])


def _photos(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.iterdir())


def _transforms() -> Callable[[Any], Any]:
    from torchvision import transforms
    from torchvision.transforms import InterpolationMode

    steps = [
        transforms.Resize(256, InterpolationMode.BICUBIC),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize(_MEAN, _STD),
    ]
    composed: Callable[[Any], Any] = transforms.Compose(steps)
    return composed


def timm_loop(folder: Path, out: Path, architecture: str) -> None:
    """timm's inference.py: its dataset, loader and model API; one loader worker for each core."""
    import timm
    import torch
    from timm.data import create_dataset, create_loader, resolve_data_config

    model = timm.create_model(architecture, pretrained=False).eval()
    config = resolve_data_config({}, model=model)
    dataset = create_dataset(name="", root=str(folder), split="")
    loader = create_loader(
        dataset,
        batch_size=_BATCH_SIZE,
        use_prefetcher=False,
        num_workers=os.cpu_count() or 2,
        input_size=config["input_size"],
        interpolation=config["interpolation"],
        mean=config["mean"],
        std=config["std"],
        crop_pct=config["crop_pct"],
        device=torch.device("cpu"),
    )
    labels: list[list[int]] = []
    with torch.inference_mode():
        for photos, _ in loader:
            labels += model(photos).softmax(-1).topk(_TOP_K).indices.tolist()
    _write(out, zip(dataset.filenames(basename=True), labels, strict=True))


def hugging_face_pipeline(folder: Path, out: Path, architecture: str) -> None:
    """transformers' image-classification pipeline over a list of files."""
    from transformers import TimmWrapperConfig, TimmWrapperForImageClassification, ViTImageProcessor, pipeline

    config = TimmWrapperConfig(architecture=architecture, num_labels=1000)
    processor = ViTImageProcessor(size={"height": 224, "width": 224}, image_mean=_MEAN, image_std=_STD)
    classify = pipeline(
        "image-classification",
        model=TimmWrapperForImageClassification(config).eval(),
        image_processor=processor,
        batch_size=_BATCH_SIZE,
        num_workers=os.cpu_count() or 2,
        top_k=_TOP_K,
        device="cpu",
    )
    names = _photos(folder)
    answers = ([int(answer["label"].removeprefix("LABEL_")) for answer in photo] for photo in classify(names))
    _write(out, zip(names, answers, strict=True))


class _RayClassifier:
    def __init__(self, architecture: str) -> None:
        import timm

        self._model = timm.create_model(architecture, pretrained=False).eval()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        import torch

        with torch.inference_mode():
            logits = self._model(torch.as_tensor(batch["photo"]))
        return {"path": batch["path"], "labels": logits.softmax(-1).topk(_TOP_K).indices.numpy()}


def ray_data(folder: Path, out: Path, architecture: str) -> None:
    """Ray Data's recipe for batch inference: read_images, map a transform, map_batches with an actor."""
    import ray

    transform = _transforms()

    def prepare(row: dict[str, Any]) -> dict[str, Any]:
        from PIL import Image

        return {"path": row["path"], "photo": transform(Image.fromarray(row["image"])).numpy()}

    ray.init(log_to_driver=False, include_dashboard=False)
    found = ray.data.read_images(str(folder), mode="RGB", include_paths=True).map(prepare)
    labelled = found.map_batches(
        _RayClassifier,
        fn_constructor_args=(architecture,),
        batch_size=_BATCH_SIZE,
        compute=ray.data.ActorPoolStrategy(size=1),
    )
    _write(out, ((row["path"], row["labels"].tolist()) for row in labelled.iter_rows()))
    ray.shutdown()


def one_at_a_time(folder: Path, out: Path, architecture: str) -> None:
    """The loop of most articles about a Flask service: open, transform and classify one photo at a time."""
    import timm
    import torch
    from PIL import Image

    model = timm.create_model(architecture, pretrained=False).eval()
    transform = _transforms()

    def answers() -> Iterator[tuple[str, list[int]]]:
        for name in _photos(folder):
            photo = transform(Image.open(name).convert("RGB")).unsqueeze(0)
            with torch.no_grad():
                yield name, model(photo).softmax(-1).topk(_TOP_K).indices[0].tolist()

    _write(out, answers())


def plain_onnxruntime(folder: Path, out: Path, artifact: str) -> None:
    """One onnxruntime session with its default threads, fed by Pillow in one loop."""
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(artifact, providers=["CPUExecutionProvider"])

    def answers() -> Iterator[tuple[str, list[int]]]:
        names = _photos(folder)
        for start in range(0, len(names), _BATCH_SIZE):
            batch = names[start : start + _BATCH_SIZE]
            feed = {"photos": np.stack([pixels_of(name) for name in batch]), "k": np.array([_TOP_K], np.int64)}
            yield from zip(batch, session.run(["ids"], feed)[0].tolist(), strict=True)

    _write(out, answers())


def openvino_nncf(folder: Path, out: Path, int8: str) -> None:
    """OpenVINO's asynchronous requests on NNCF's int8."""
    _write(out, nncf_labels(_photos(folder), Path(int8), _TOP_K))


PEERS = {
    "timm": timm_loop,
    "Hugging Face pipeline": hugging_face_pipeline,
    "Ray Data": ray_data,
    "one photo at a time": one_at_a_time,
    "plain onnxruntime": plain_onnxruntime,
    NNCF: openvino_nncf,
}


@click.command()
@click.argument("peer", type=click.Choice(list(PEERS)))
@click.argument("photos", type=click.Path(exists=True, path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.argument("network")
def peer_loop(peer: str, photos: Path, out: Path, network: str) -> None:
    """Label PHOTOS as PEER does; NETWORK is timm's name of an architecture, or the model's file."""
    PEERS[peer](photos, out, network)


if __name__ == "__main__":
    peer_loop()
