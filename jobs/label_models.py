"""The command `label-models VERB`: list, build, import, certify, export and time models."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from jobs.cli.columns import aligned
from jobs.cli.number_type import NumberBetween
from jobs.cli.options import context_settings, quiet_option, take_options, with_options
from jobs.workshop.options import CertificateOptions, CertificateTerms, QuantizationOptions

_REFUSED = 3


def _epilog(*examples: str) -> str:
    return "\b\nExamples:\n" + "\n".join(f"  {example}" for example in examples)


_FOLDER = click.Path(path_type=Path)


@click.group(
    context_settings=context_settings("LABEL_DIR"),
    epilog=_epilog("label-models list", "label-models build resnet18 -h"),
)
@quiet_option
@click.version_option(package_name="label-dir")
def command(quiet: bool) -> None:
    """Turn any image classifier into a certified int8 model for label-dir -m NAME.

    Exit codes: 0 done; 2 usage; 3 done, but int8 is refused here and label-dir runs fp32; 66 input missing or damaged;
    74 the cache or an output can't be written.
    """
    from jobs.cli.logging_setup import log_to_stderr

    log_to_stderr("label-models", level=logging.ERROR if quiet else logging.WARNING)


@command.command("list", epilog=_epilog("label-models list", "label-models list --all"))
@click.option("--all", "is_all", is_flag=True, help="Also the names of torchvision's models, which are not built yet.")
def list_models(is_all: bool) -> None:
    """List the models: classes, input, id, size, certificate on this CPU."""
    from jobs.cli.standard_streams import print_text
    from jobs.workshop.building import LISTED_COLUMNS, listed_models, other_names

    print_text("\n".join(aligned([LISTED_COLUMNS, *listed_models()])))
    if is_all:
        _require_build("listing torchvision's models")
        print_text("\n".join(other_names()))


@command.command(
    epilog=_epilog(
        "label-models build efficientnet_lite0",
        "label-models build resnet18 --calibrate photos/",
        "label-models build resnet18 --weights shelf.pth --labels shelf.txt --name shelf",
    )
)
@click.argument("architecture")
@click.option("--weights", type=_FOLDER, metavar="FILE", help="Your own weights, a file of torch.save(state_dict).")
@click.option("--labels", type=_FOLDER, metavar="FILE", help="A text file, one label a line.")
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
    _require_build("building a model")
    from jobs.workshop.building import build_own, build_published
    from models.build_steps import Origin
    from models.label_file import read_labels
    from models.manifest import checked_name

    if labels is not None and weights is None:
        raise click.UsageError("--labels names the classes of --weights, which is missing")
    options = take_options(QuantizationOptions, parsed)
    if weights is None and options.calibrate is None and options.name is None and not random_weights:
        return _print_certificate(build_published(architecture, _notify))
    names = read_labels(labels) if labels is not None else None
    origin = Origin(checked_name(options.name or architecture), architecture, weights, names, random_weights)
    return _print_certificate(build_own(origin, options, _notify))


@command.command(
    "import",
    epilog=_epilog(
        "label-models import my.onnx --labels my.txt --input 224 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"
    ),
)
@click.argument("file", type=_FOLDER)
@click.option("--labels", type=_FOLDER, metavar="FILE", required=True, help="A text file, one label a line.")
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
    _require_build("importing a model")
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
    return _print_certificate(import_onnx(request, options, _notify))


@command.command(
    epilog=_epilog("label-models export shelf shelf.onnx", "label-dir -m shelf.onnx photos/ labels.parquet")
)
@click.argument("name")
@click.argument("file", type=_FOLDER)
def export(name: str, file: Path) -> int:
    """Write the model NAME with its certificate into FILE.onnx, which label-dir -m FILE.onnx runs without torch."""
    from jobs.cli.standard_streams import print_text
    from jobs.workshop.export import export_model
    from models.certification.certificate import MEGABYTE

    exported = export_model(name, file, _notify)
    print_text(f"{file}: {exported.model_id}, {exported.precision}, {file.stat().st_size / MEGABYTE:.2f} MB")
    return 0 if exported.precision == "int8" else _REFUSED


@command.command(epilog=_epilog("label-models certify efficientnet_lite0 --photos photos/"))
@click.argument("name")
@click.option("--photos", type=_FOLDER, metavar="PHOTOS", help="Photos to compare on.  [default: generated images]")
@with_options(CertificateOptions)
def certify(name: str, photos: Path | None, **parsed: Any) -> int:
    """Measure NAME on this CPU, int8 against fp32: agreement, accuracy where labels are known, speed, size, memory;
    then each installed engine, of which label-dir --engine auto runs the fastest that passes.

    The true labels come from photos.csv or PHOTOS.csv (file_name, class_index or category), or from names of folders.
    """
    _require_build("certifying a model")
    from jobs.cli.standard_streams import print_text
    from jobs.workshop.building import certify_again

    certificate, survey = certify_again(name, photos, take_options(CertificateOptions, parsed), _notify)
    exit_code = _print_certificate(certificate)
    if survey is not None:
        print_text("\n".join(aligned(survey.lines())))
    return exit_code


@command.command(
    epilog=_epilog(
        "label-models bench efficientnet_lite0",
        "label-models bench resnet18 --random-weights --chart resnet18.png",
        "label-models bench resnet18 --engine torch --engine onnxruntime --format csv",
    )
)
@click.argument("name")
@click.option("--random-weights", is_flag=True, help="NAME is an architecture; time it with random weights.")
@click.option("--engine", multiple=True, help="Only these engines.  [default: all]")
@click.option("--photos", type=_FOLDER, metavar="PHOTOS", help="For the agreement.  [default: generated images]")
@click.option(
    "--rounds",
    type=click.IntRange(1, 100),
    default=3,
    show_default=True,
    help="Rounds of all engines; medians are shown.",
)
@click.option(
    "--format", "output_format", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True
)
@click.option("--chart", type=_FOLDER, metavar="PNG", help="Also draw a bar chart (extra: bench).")
def bench(
    name: str,
    random_weights: bool,
    engine: tuple[str, ...],
    photos: Path | None,
    rounds: int,
    output_format: str,
    chart: Path | None,
) -> None:
    """Run NAME with every engine, each in a fresh process, in turn, and print the time and memory of each."""
    _require_build("timing all engines")
    from jobs.cli.standard_streams import print_text
    from jobs.workshop.bench import as_text, measured_rows, random_model
    from models.system.cpu_kind import this_cpu

    built = random_model(name, _notify) if random_weights else name
    rows = measured_rows(built, engine, photos, rounds, _notify)
    print_text(as_text(rows, output_format))
    if chart is not None:
        from models.certification.bench_chart import write_chart

        write_chart(chart, f"{built} on {this_cpu().name}", rows)


@command.command(
    epilog=_epilog(
        "label-models teach products/ --name shelf",
        "label-models teach products/ --name shelf --minutes 2",
        "label-models teach photos/ --labels labels.csv --name shelf --unknown floors/",
    )
)
@click.argument("photos", type=_FOLDER)
@click.option("--name", required=True, help="What to call the model, for label-dir -m NAME.")
@click.option("--labels", type=_FOLDER, metavar="CSV", help="file_name,label.  [default: folders are the classes]")
@click.option(
    "--reviews", type=_FOLDER, metavar="FILE", help="What persons confirmed: OUT.reviews.sqlite of label-serve."
)
@click.option("--held-out", type=_FOLDER, metavar="DIR", help="Photos to judge by.  [default: some of PHOTOS]")
@click.option("--unknown", type=_FOLDER, metavar="DIR", help="Photos of none of the classes.")
@click.option(
    "--base",
    type=click.Choice(["efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2"]),
    default="efficientnet_lite0",
    show_default=True,
    help="The pretrained network to begin with; larger is slower and more accurate.",
)
@click.option("--minutes", type=NumberBetween(0.1, 1440), default=10, show_default=True, help="What it may take.")
@click.option("--precision", type=NumberBetween(0.5, 1), default=0.95, show_default=True, help="Wanted; below: unsure.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all that is drawn.")
@click.option(
    "--memory", type=click.IntRange(500), default=2000, show_default=True, help="MB; above it, slower in less memory."
)
@click.option("--fresh", is_flag=True, help="Teach the whole network again, even where only a few photos are new.")
@click.option("--qat", is_flag=True, help="End with an epoch of quantization-aware training.")
@click.option("--report", type=_FOLDER, metavar="HTML", help="Where the report goes.  [default: NAME-teaching.html]")
@with_options(CertificateTerms)
def teach(
    photos: Path,
    name: str,
    labels: Path | None,
    reviews: Path | None,
    held_out: Path | None,
    unknown: Path | None,
    base: str,
    minutes: float,
    precision: float,
    seed: int,
    memory: int,
    fresh: bool,
    qat: bool,
    report: Path | None,
    **parsed: Any,
) -> int:
    """Teach a model the classes that the folders in PHOTOS are, certify it on photos kept out, and write a report."""
    _require_build("teaching")
    from jobs.cli.standard_streams import print_text
    from jobs.workshop.building import check_own_name
    from jobs.workshop.teaching import TeachOptions, teach_model
    from jobs.workshop.teaching_page import check_replaceable, write_teaching_report
    from jobs.workshop.teaching_stop import teaching_stop
    from jobs.workshop.teaching_summary import summary, teaching_bar
    from models.manifest import checked_name

    check_own_name(name)
    page = report or Path(f"{checked_name(name)}-teaching.html")
    check_replaceable(page)
    options = TeachOptions(
        folder=photos,
        name=name,
        base=base,
        minutes=minutes,
        seed=seed,
        precision=precision,
        terms=take_options(CertificateTerms, parsed).terms,
        memory_mb=memory,
        labels=labels,
        reviews=reviews,
        held_out=held_out,
        unknown=unknown,
        fresh=fresh,
        is_quantization_aware=qat,
    )
    with teaching_stop() as stop, teaching_bar(_notify) as (notify, on_photo):
        taught = teach_model(options, notify, on_photo, stop)
        write_teaching_report(page, name, taught)
        print_text("\n".join(summary(name, taught, page)))
        if stop.requested():
            return 128 + stop.requested()
    return 0 if taught.certificate.passed else _REFUSED


def _print_certificate(certificate: object) -> int:
    """Print a certificate, and return the exit code it stands for."""
    from jobs.cli.standard_streams import print_text
    from models.certification.certificate import Certificate

    if not isinstance(certificate, Certificate):
        print_text("int8 is refused on this CPU: label-dir runs fp32")
        return _REFUSED
    print_text("\n".join(aligned(certificate.lines())))
    return 0 if certificate.passed else _REFUSED


def _require_build(purpose: str) -> None:
    """Raise InputMissingError where the packages that building a model needs are not installed."""
    from models.system.installed import require_packages

    require_packages(purpose, "torch", "onnx")


def _per_channel(option: str, text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 3:
        raise click.UsageError(f"{option} {text}: three numbers separated by commas, for red, green and blue")
    return values


def _notify(sentence: str) -> None:
    logging.getLogger(__name__).warning("%s", sentence)


def main() -> None:
    """Run the command line."""
    from jobs.cli.entry_point import end_with_exit_code

    end_with_exit_code(command, "label-models")


if __name__ == "__main__":
    main()
