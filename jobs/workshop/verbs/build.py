"""The verbs `build` and `import` of `label-models`: a network -> a certified int8 model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from jobs.cli.options import take_options, with_options
from jobs.workshop.options import PATH, QuantizationOptions
from jobs.workshop.verbs.shared import examples, notify, print_certificate, require_build


@click.command(
    epilog=examples(
        "label-models build efficientnet_lite0",
        "label-models build resnet18 --calibrate photos/",
        "label-models build resnet18 --weights shelf.pth --labels shelf.txt --name shelf",
    )
)
@click.argument("architecture")
@click.option("--weights", type=PATH, metavar="FILE", help="Your own weights, a file of torch.save(state_dict).")
@click.option("--labels", type=PATH, metavar="FILE", help="A text file, one label a line.")
@click.option("--random-weights", is_flag=True, help="Random weights, for timing only.")
@with_options(QuantizationOptions)
def build(
    architecture: str,
    weights: Path | None,
    labels: Path | None,
    random_weights: bool,
    **parsed: Any,
) -> int:
    """Build ARCHITECTURE, of the zoo or torchvision, quantize it and certify it on this CPU."""
    require_build("building a model")
    from jobs.workshop.building import build_own, build_published
    from models.build_steps import Origin
    from models.label_file import read_labels
    from models.manifest import checked_name

    if labels is not None and weights is None:
        raise click.UsageError("--labels names the classes of --weights, which is missing")
    options = take_options(QuantizationOptions, parsed)
    if weights is None and options.calibrate is None and options.name is None and not random_weights:
        return print_certificate(build_published(architecture, notify))
    names = read_labels(labels) if labels is not None else None
    origin = Origin(checked_name(options.name or architecture), architecture, weights, names, random_weights)
    return print_certificate(build_own(origin, options, notify))


@click.command(
    "import",
    epilog=examples(
        "label-models import my.onnx --labels my.txt --input 224 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"
    ),
)
@click.argument("file", type=PATH)
@click.option("--labels", type=PATH, metavar="FILE", required=True, help="A text file, one label a line.")
@click.option("--input", "side", type=click.IntRange(8, 4096), required=True, help="Side of the input, in pixels.")
@click.option("--resize", type=click.IntRange(8, 8192), help="Shortest side before the crop.  [default: input * 8 / 7]")
@click.option("--mean", required=True, metavar="R,G,B", help="Subtracted; up to 1: of pixels scaled to 0..1.")
@click.option("--std", required=True, metavar="R,G,B", help="Divided by, in the same units.")
@click.option("--interpolation", type=click.Choice(["bilinear", "bicubic"]), default="bilinear", show_default=True)
@with_options(QuantizationOptions)
def import_file(
    file: Path,
    labels: Path,
    side: int,
    resize: int | None,
    mean: str,
    std: str,
    interpolation: str,
    **parsed: Any,
) -> int:
    """Import an ONNX classifier FILE, float32 [n, 3, side, side] to [n, classes], quantize and certify it."""
    require_build("importing a model")
    from jobs.workshop.building import import_onnx
    from models.label_file import read_labels
    from models.manifest import checked_name
    from models.networks.onnx_import import ImportRequest
    from models.spec import Crop, Normalisation, Preprocessing

    means, deviations = _per_channel("--mean", mean), _per_channel("--std", std)
    unit = 255.0 if max(*means, *deviations) <= 1.0 else 1.0
    scaled = [tuple(round(value * unit, 4) for value in channels) for channels in (means, deviations)]
    if min(scaled[1]) <= 0:
        raise click.UsageError("--std must be above zero")
    normalisation = Normalisation(scaled[0], scaled[1])  # type: ignore[arg-type]  # three
    crop = Crop(resize or side * 8 // 7, side, "bicubic" if interpolation == "bicubic" else "bilinear")
    options = take_options(QuantizationOptions, parsed)
    name = checked_name(options.name or file.stem)
    request = ImportRequest(file, name, Preprocessing(crop, normalisation), read_labels(labels))
    return print_certificate(import_onnx(request, options, notify))


def _per_channel(option: str, text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 3:
        raise click.UsageError(f"{option} {text}: three numbers separated by commas, for red, green and blue")
    return values
