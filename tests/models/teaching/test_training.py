"""How a network is trained: where the head begins, how fast each layer learns, and rounding as int8 rounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.networks.efficientnet_lite import efficientnet_lite
from models.samples import generated_images
from models.spec import Preprocessing
from models.teaching.photo_set import UNKNOWN, PhotoSet
from models.teaching.training.head import begin_with_means
from models.teaching.training.rounding import Rounding
from models.teaching.training.teachable_network import TeachableNetwork
from models.teaching.training.train import TrainingRecipe, peak_rate, train
from models.zoo import SPECS
from tests.models.teaching.test_figures import blobs, digests

BASE = "efficientnet_lite0"


def network(classes: int) -> TeachableNetwork:
    torch.manual_seed(0)
    return TeachableNetwork(BASE, efficientnet_lite(BASE).state_dict(), classes)


def photo_set(folder: Path, classes: list[int], labels: int, side: int = 40) -> PhotoSet:
    path = folder / "pixels"
    path.write_bytes(generated_images(len(classes), side, 0).tobytes())
    names = tuple(map(str, range(len(classes))))
    ids = tuple(f"class {index}" for index in range(labels))
    moments = (None,) * len(classes)
    return PhotoSet(ids, names, digests(len(classes)), np.array(classes), moments, path, side)


def small(preprocessing: Preprocessing) -> Preprocessing:
    """Views of 32 pixels: the training loop is the same, and takes a second."""
    crop = type(preprocessing.crop)(40, 32, preprocessing.crop.interpolation)
    return Preprocessing(crop, preprocessing.normalisation)


def test_the_head_begins_with_the_means_of_classes_and_knows_them_already(tmp_path: Path) -> None:
    features, classes = blobs(5, 6, spread=0.2)
    features = np.pad(np.abs(features), ((0, 0), (0, 1280 - features.shape[1])))
    photos = photo_set(tmp_path, [*classes[:-1].tolist(), UNKNOWN], 5)
    taught = network(5)
    begin_with_means(taught, features, photos, np.arange(len(classes)))
    with torch.no_grad():
        logits = taught.head(torch.from_numpy(features)).numpy()
    assert (logits.argmax(axis=1) == classes).mean() > 0.9
    assert 1 < logits.std() < 20


def test_photos_that_are_all_alike_give_the_head_a_beginning_without_sense_but_within_bounds(tmp_path: Path) -> None:
    features = np.ones((2, 1280), np.float32)
    features[1] += 1e-7
    taught = network(2)
    begin_with_means(taught, features, photo_set(tmp_path, [0, 1], 2), np.arange(2))
    with torch.no_grad():
        assert taught.head(torch.from_numpy(features)).abs().max() < 100


def test_each_layer_learns_at_the_same_rate_for_the_size_of_its_weights() -> None:
    taught = network(2)
    with torch.no_grad():
        taught.top.weight.mul_(100)
    recipe = TrainingRecipe()
    rates = [
        peak_rate(name, parameter, recipe) / float(parameter.detach().square().mean().sqrt())
        for name, parameter in taught.named_parameters()
        if parameter.ndim > 1 and not name.startswith("head.")
    ]
    assert rates == pytest.approx([recipe.relative_rate] * len(rates))
    assert peak_rate("head.weight", taught.head.weight, recipe) == recipe.head_rate
    assert peak_rate("top.bias", taught.top.bias, recipe) == recipe.bias_rate


def test_a_training_ends_after_the_step_at_which_it_is_told_to(tmp_path: Path) -> None:
    photos = photo_set(tmp_path, [0, 1] * 4, 2)
    recipe = TrainingRecipe(epochs=4, batch_size=4)
    trained = train(
        network(2),
        photos,
        np.arange(8),
        small(SPECS[BASE].preprocessing),
        recipe,
        float("inf"),
        lambda step, steps: step < 3,
    )
    assert trained.epochs == pytest.approx(1.5)


def test_rounded_weights_are_those_of_int8_and_gradients_pass_through() -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 8, 3, 3, requires_grad=True)
    rounded = Rounding().weights(weight)
    scale = weight.detach().abs().amax(dim=(1, 2, 3), keepdim=True) / 127
    torch.testing.assert_close(rounded, torch.round(weight.detach() / scale) * scale)
    rounded.sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert weight.grad.abs().min() == 1


def test_rounded_outputs_have_256_values_with_zero_among_them() -> None:
    torch.manual_seed(0)
    rounding = Rounding()
    output = rounding.output(torch.randn(2, 64, 16, 16) + 1)
    assert len(np.unique(output.numpy())) <= 256
    assert (output == 0).any()
