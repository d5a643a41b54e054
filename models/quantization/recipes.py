"""Which int8 recipes to try, in what order, and which layers are worth keeping in fp32."""

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
    """Candidates from the cheapest to the most careful; later ones are worked out only when asked for.

    Full-range weights are a candidate only where no int8 kernel saturates. The last ones keep the layers in fp32 that,
    measured on `pixels`, bring the answers nearest to fp32.
    """
    yield Recipe("portable")
    best: Recipe = Recipe("portable")
    if not cpu.saturates:
        best = Recipe("full")
        yield best
    ranked = sensitive_layers(network, calibration, pixels[:SENSITIVITY_IMAGES], best, threads)
    for count in FLOAT_LAYERS_TRIED:
        yield Recipe(best.weight_range, tuple(sorted(ranked[:count])))


def sensitive_layers(
    network: Network, calibration: Calibration, pixels: Pixels, recipe: Recipe, threads: int
) -> list[str]:
    """The layers with weights, most sensitive first: ranked by how near the int8 model comes to fp32, in mean
    divergence, when that layer alone stays in fp32."""
    reference = logits_of(fp32_artifact(network), pixels, threads)
    divergences = {}
    for node in network.graph.nodes:
        if layer(network.graph, node) is None:
            continue
        name = node.output[0]
        content = int8_artifact(network, calibration, Recipe(recipe.weight_range, (name,)), {})
        divergences[name] = agreement(logits_of(content, pixels, threads), reference).divergence
    return sorted(divergences, key=lambda name: divergences[name])
