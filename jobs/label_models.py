"""The command `label-models VERB`, and its verbs list, export, certify and bench; more are in jobs/workshop/verbs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from jobs.cli.columns import aligned
from jobs.cli.options import context_settings, quiet_option, take_options, with_options
from jobs.workshop.options import PATH, CertificateOptions
from jobs.workshop.verbs.build import build, import_file
from jobs.workshop.verbs.shared import REFUSED, examples, notify, print_certificate, require_build
from jobs.workshop.verbs.teach import teach


@click.group(
    context_settings=context_settings("LABEL_DIR"),
    epilog=examples("label-models list", "label-models build resnet18 -h"),
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


@command.command("list", epilog=examples("label-models list", "label-models list --all"))
@click.option("--all", "is_all", is_flag=True, help="Also the names of torchvision's models, which are not built yet.")
def list_models(is_all: bool) -> None:
    """List the models: classes, input, id, size, certificate on this CPU."""
    from jobs.cli.standard_streams import print_text
    from jobs.workshop.building import LISTED_COLUMNS, listed_models, other_names

    print_text("\n".join(aligned([LISTED_COLUMNS, *listed_models()])))
    if is_all:
        require_build("listing torchvision's models")
        print_text("\n".join(other_names()))


@command.command(
    epilog=examples("label-models export shelf shelf.onnx", "label-dir -m shelf.onnx photos/ labels.parquet")
)
@click.argument("name")
@click.argument("file", type=PATH)
def export(name: str, file: Path) -> int:
    """Write the model NAME with its certificate into FILE.onnx, which label-dir -m FILE.onnx runs without torch."""
    from jobs.cli.standard_streams import print_text
    from jobs.workshop.export import export_model
    from models.certification.certificate import MEGABYTE

    exported = export_model(name, file, notify)
    print_text(f"{file}: {exported.model_id}, {exported.precision}, {file.stat().st_size / MEGABYTE:.2f} MB")
    return 0 if exported.precision == "int8" else REFUSED


@command.command(epilog=examples("label-models certify efficientnet_lite0 --photos photos/"))
@click.argument("name")
@click.option("--photos", type=PATH, metavar="PHOTOS", help="Photos to compare on.  [default: generated images]")
@with_options(CertificateOptions)
def certify(name: str, photos: Path | None, **parsed: Any) -> int:
    """Measure NAME on this CPU, int8 against fp32: agreement, accuracy where labels are known, speed, size, memory;
    then each installed engine, of which label-dir --engine auto runs the fastest that passes.

    The true labels come from photos.csv or PHOTOS.csv (file_name, class_index or category), or from names of folders.
    """
    require_build("certifying a model")
    from jobs.cli.standard_streams import print_text
    from jobs.workshop.building import certify_again

    certificate, survey = certify_again(name, photos, take_options(CertificateOptions, parsed), notify)
    exit_code = print_certificate(certificate)
    if survey is not None:
        print_text("\n".join(aligned(survey.lines())))
    return exit_code


@command.command(
    epilog=examples(
        "label-models bench efficientnet_lite0",
        "label-models bench resnet18 --random-weights --chart resnet18.png",
        "label-models bench resnet18 --engine torch --engine onnxruntime --format csv",
    )
)
@click.argument("name")
@click.option("--random-weights", is_flag=True, help="NAME is an architecture; time it with random weights.")
@click.option("--engine", multiple=True, help="Only these engines.  [default: all]")
@click.option("--photos", type=PATH, metavar="PHOTOS", help="For the agreement.  [default: generated images]")
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
@click.option("--chart", type=PATH, metavar="PNG", help="Also draw a bar chart (extra: bench).")
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
    require_build("timing all engines")
    from jobs.cli.standard_streams import print_text
    from jobs.workshop.bench import as_text, measured_rows, random_model
    from models.system.cpu_kind import this_cpu

    built = random_model(name, notify) if random_weights else name
    rows = measured_rows(built, engine, photos, rounds, notify)
    print_text(as_text(rows, output_format))
    if chart is not None:
        from models.certification.bench_chart import write_chart

        write_chart(chart, f"{built} on {this_cpu().name}", rows)


command.add_command(build)
command.add_command(import_file)
command.add_command(teach)


def main() -> None:
    """Run the command line."""
    from jobs.cli.entry_point import end_with_exit_code

    end_with_exit_code(command, "label-models")


if __name__ == "__main__":
    main()
