"""The int8 recipes to try for a network, in order, and the ranking of its layers by sensitivity to int8."""

from __future__ import annotations

from collections.abc import Iterator

from models.classifier import Pixels
from models.networks.network import Network
from models.quantization.agreement import agreement, logits_of
from models.quantization.artifact_builder import fp32_artifact, int8_artifact
from models.quantization.calibration_table import Calibration
from models.quantization.layers import layer
from models.quantization.quantize import Recipe
from models.system.cpu_kind import CpuKind

SENSITIVITY_IMAGES = 24
FLOAT_LAYERS_TRIED = (2, 5)


def recipes(network: Network, calibration: Calibration, pixels: Pixels, cpu: CpuKind, threads: int) -> Iterator[Recipe]:
    """Recipes from the fastest to the most accurate; each is worked out when the caller asks for it.

    Full-range weights are among them only where no int8 kernel of `cpu` saturates. The last recipes keep the most
    sensitive layers, as measured on `pixels`, in fp32.
    """
    best = Recipe("portable")
    yield best
    if not cpu.saturates:
        best = Recipe("full")
        yield best
    ranked = sensitive_layers(network, calibration, pixels[:SENSITIVITY_IMAGES], best, threads)
    for count in FLOAT_LAYERS_TRIED:
        yield Recipe(best.weight_range, tuple(sorted(ranked[:count])))


def sensitive_layers(
    network: Network, calibration: Calibration, pixels: Pixels, recipe: Recipe, threads: int
) -> list[str]:
    """The layers with weights by output name, most sensitive first: those that, as the only layer in fp32, bring the
    int8 model's mean divergence from fp32 down most."""
    reference = logits_of(fp32_artifact(network), pixels, threads)
    names = [node.output[0] for node in network.graph.nodes if layer(network.graph, node) is not None]
    divergences = {}
    for name in names:
        content = int8_artifact(network, calibration, Recipe(recipe.weight_range, (name,)))
        divergences[name] = agreement(logits_of(content, pixels, threads), reference).divergence
    return sorted(names, key=lambda name: divergences[name])
