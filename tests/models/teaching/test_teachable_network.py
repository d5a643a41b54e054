"""The network that is taught computes what the published architecture does, forwards and backwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from models.errors import OutputError
from models.networks.efficientnet_lite import efficientnet_lite
from models.teaching.teach import write_weights
from models.teaching.training.teachable_network import DepthwiseConvolution, TeachableNetwork


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "side"), [(3, 1, 1, 9), (5, 1, 2, 8), (5, 2, 2, 9), (3, 2, 0, 9)]
)
def test_the_depthwise_gradient_is_the_one_that_torch_computes(
    kernel: int, stride: int, padding: int, side: int
) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4, side, side, dtype=torch.float64, requires_grad=True)
    weight, bias = torch.randn(4, 1, kernel, kernel, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    y = nn.functional.conv2d(x, weight, bias, stride, padding, groups=4)
    pull = torch.randn_like(y)
    (wanted,) = torch.autograd.grad(y, x, pull)
    ours = DepthwiseConvolution.apply(x, weight, bias, stride, padding)
    torch.testing.assert_close(ours, y)
    (given,) = torch.autograd.grad(ours, x, pull)
    torch.testing.assert_close(given, wanted)


def test_a_taught_network_has_the_published_architectures_answers_and_loads_again() -> None:
    torch.manual_seed(0)
    base = efficientnet_lite("efficientnet_lite0")
    for module in base.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    network = TeachableNetwork("efficientnet_lite0", base.state_dict(), 5)
    nn.init.normal_(network.head.weight, 0, 0.1)
    published = efficientnet_lite("efficientnet_lite0", 5)
    published.load_state_dict(network.published_form())
    x = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(published.eval()(x), network(x), atol=1e-3, rtol=1e-3)
    again = TeachableNetwork("efficientnet_lite0", efficientnet_lite("efficientnet_lite0").state_dict(), 5)
    again.load_published_form(network.published_form())
    with torch.no_grad():
        torch.testing.assert_close(again.features(x), network.features(x))


def test_weights_that_find_no_room_on_the_disk_are_an_error_of_the_output() -> None:
    network = TeachableNetwork("efficientnet_lite0", efficientnet_lite("efficientnet_lite0").state_dict(), 2)
    with pytest.raises(OutputError, match="/dev/full cannot be written: No space left on device"):
        write_weights(network, Path("/dev/full"))


def test_computing_activations_twice_gives_the_same_gradients() -> None:
    torch.manual_seed(0)
    network = TeachableNetwork("efficientnet_lite0", efficientnet_lite("efficientnet_lite0").state_dict(), 3)
    nn.init.normal_(network.head.weight, 0, 0.1)
    x, gradients = torch.randn(2, 3, 96, 96), []
    for network.recomputes in (False, True):
        network.zero_grad()
        network(x).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None])
    torch.testing.assert_close(gradients[0], gradients[1])


def test_only_what_teaching_may_change_has_gradients() -> None:
    base = efficientnet_lite("efficientnet_lite0")
    network = TeachableNetwork("efficientnet_lite0", base.state_dict(), 3)
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert not any(name.startswith(("stem", "blocks.0.", "blocks.4.")) for name in trained)
    assert {"head.weight", "top.weight", "blocks.5.layers.0.weight", "blocks.5.layers.1.bias"} <= trained
    assert "blocks.5.layers.1.weight" not in trained
