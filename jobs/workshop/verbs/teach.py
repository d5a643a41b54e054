"""The verb `teach` of `label-models`: photos and their classes -> a model of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from jobs.cli.number_type import NumberBetween
from jobs.cli.options import take_options, with_options
from jobs.workshop.options import PATH, CertificateTerms
from jobs.workshop.verbs.shared import REFUSED, examples, notify, require_build


@click.command(
    epilog=examples(
        "label-models teach products/ --name shelf",
        "label-models teach products/ --name shelf --minutes 2",
        "label-models teach photos/ --labels labels.csv --name shelf --unknown floors/",
    )
)
@click.argument("photos", type=PATH)
@click.option("--name", required=True, help="What to call the model, for label-dir -m NAME.")
@click.option("--labels", type=PATH, metavar="CSV", help="file_name,label.  [default: folders are the classes]")
@click.option("--reviews", type=PATH, metavar="FILE", help="What persons confirmed: OUT.reviews.sqlite of label-serve.")
@click.option("--held-out", type=PATH, metavar="DIR", help="Photos to judge by.  [default: some of PHOTOS]")
@click.option("--unknown", type=PATH, metavar="DIR", help="Photos of none of the classes.")
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
@click.option("--report", type=PATH, metavar="HTML", help="Where the report goes.  [default: NAME-teaching.html]")
@with_options(CertificateTerms)
def teach(photos: Path, name: str, memory: int, qat: bool, report: Path | None, **parsed: Any) -> int:
    """Teach a model the classes that the folders in PHOTOS are, certify it on photos kept out, and write a report."""
    require_build("teaching")
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
    terms = take_options(CertificateTerms, parsed).terms
    options = TeachOptions(photos, name, terms=terms, memory_mb=memory, is_quantization_aware=qat, **parsed)
    with teaching_stop() as stop, teaching_bar(notify) as (notify_above_bar, on_photo):
        taught = teach_model(options, notify_above_bar, on_photo, stop)
        write_teaching_report(page, name, taught)
        print_text("\n".join(summary(name, taught, page)))
        if stop.requested():
            return 128 + stop.requested()
    return 0 if taught.certificate.passed else REFUSED
