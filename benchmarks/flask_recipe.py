"""The web page of most articles on image classification: Flask, torch eager, one photo at a time.

    python benchmarks/flask_recipe.py MODEL PORT

Written as the articles write it; the architecture and the weights are those of label-dir's model MODEL.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from flask import Flask, Response, jsonify, request
from PIL import Image
from torchvision import transforms

from models.artifact import read_artifact
from models.engines.torch_weights import load_torch_module
from models.manifest import cache_folder, read_manifest

_TOP_K = 3
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def create_app(model: str) -> Flask:
    """The application: one route that takes a file and answers with three labels."""
    manifest = read_manifest(model)
    assert manifest is not None, f"build {model} first"
    artifact = read_artifact(Path(cache_folder()) / manifest.fp32)
    network = load_torch_module(artifact).eval()
    crop = artifact.preprocessing.crop
    steps = [transforms.Resize(crop.resize_size), transforms.CenterCrop(crop.crop_size), transforms.ToTensor()]
    transform = transforms.Compose([*steps, transforms.Normalize(_MEAN, _STD)])
    app = Flask(__name__)

    def predict() -> Response:
        photo = Image.open(request.files["photo"].stream).convert("RGB")
        with torch.no_grad():
            probabilities = network(transform(photo).unsqueeze(0)).softmax(1)[0]
        best = probabilities.topk(_TOP_K)
        labels = [artifact.labels[index] for index in best.indices.tolist()]
        return jsonify(
            [{"label": label, "prob": prob} for label, prob in zip(labels, best.values.tolist(), strict=True)]
        )

    app.add_url_rule("/v1/label", view_func=predict, methods=["POST"])
    return app


if __name__ == "__main__":
    create_app(sys.argv[1]).run(port=int(sys.argv[2]))
