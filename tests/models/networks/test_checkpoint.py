"""Weights are loaded as training loops save them; any other file is refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from models.errors import InputMissingError
from models.networks.checkpoint import StateDict, class_count, head_name, load_strictly, read_checkpoint
from models.networks.efficientnet_lite import efficientnet_lite
from tests.support.networks import CLASSES, SmallNetwork, small_module


def saved(tmp_path: Path, content: object) -> Path:
    torch.save(content, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def prefixed(prefix: str) -> StateDict:
    return {prefix + name: value for name, value in small_module().state_dict().items()}


@pytest.mark.parametrize(
    "content",
    [
        prefixed(""),
        prefixed("module."),
        prefixed("_orig_mod.module.model."),
        {"state_dict": prefixed("model."), "epoch": 3, "optimizer": {"lr": 0.1}},
        {"model": {"state_dict": prefixed("backbone.")}, "best": 0.9},
    ],
    ids=["plain", "data parallel", "compiled", "lightning", "nested"],
)
def test_wrappers_and_prefixes_of_training_loops_are_removed(tmp_path: Path, content: object) -> None:
    tensors = read_checkpoint(saved(tmp_path, content))
    module = SmallNetwork()
    load_strictly(module, tensors, "small", "w")
    assert torch.equal(module.head.weight, small_module().head.weight)
    assert class_count(tensors, head_name(small_module(), CLASSES), "small", Path("w")) == CLASSES


def test_a_whole_pickled_model_is_not_loaded(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="more than tensors"):
        read_checkpoint(saved(tmp_path, small_module()))


@pytest.mark.parametrize("kept_bytes", [0, 10, 2000])
def test_truncated_weights_are_reported_in_a_sentence(tmp_path: Path, kept_bytes: int) -> None:
    path = saved(tmp_path, prefixed(""))
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(InputMissingError, match="truncated, damaged or no file"):
        read_checkpoint(path)


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    tensors = read_checkpoint(saved(tmp_path, prefixed("")))
    with pytest.raises(InputMissingError, match=r"do not fit efficientnet_lite0: they lack _conv_stem\.weight"):
        load_strictly(efficientnet_lite("efficientnet_lite0"), tensors, "efficientnet_lite0", "w")
    with pytest.raises(InputMissingError, match=r"of no resnet18: there is no fc\.weight"):
        class_count(tensors, "fc.weight", "resnet18", Path("w"))


def test_tensors_of_another_shape_are_named(tmp_path: Path) -> None:
    tensors = {**prefixed(""), "head.weight": torch.zeros(2, 3)}
    with pytest.raises(InputMissingError, match=r"in another shape head\.weight"):
        load_strictly(SmallNetwork(), tensors, "small", "w")
