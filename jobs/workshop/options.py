"""The options that the verbs of `label-models` share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from jobs.cli.number_type import NumberBetween
from jobs.cli.options import COUNT, Flag, Interval
from models.certification.certificate import REQUIRED_AGREEMENT

if TYPE_CHECKING:
    from models.certification.certify import Terms

PATH = click.Path(path_type=Path)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateTerms:
    """What a certificate requires, and on how many threads it is measured."""

    min_agreement: Annotated[float, Flag("Share that must agree.", type=NumberBetween(0, 1))] = REQUIRED_AGREEMENT
    threads: Annotated[int, COUNT, Flag("When timing.")] = 1

    @property
    def terms(self) -> Terms:
        """The terms of the certificate."""
        from models.certification.certify import Terms

        return Terms(threads=self.threads, required_agreement=self.min_agreement)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateOptions(CertificateTerms):
    """What a certificate requires, and on how many photos and threads it is measured."""

    samples: Annotated[int, Interval(ge=1, le=100_000), Flag("Photos drawn from a folder.")] = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationOptions(CertificateOptions):
    """How a network is quantized; without `calibrate`, generated images set the ranges of its activations."""

    name: Annotated[str | None, Flag("The name of the model.  [default: that of the architecture or file]")] = None
    calibrate: Annotated[
        Path | None, Flag("Photos that set the ranges.  [default: generated images]", metavar="PHOTOS", type=PATH)
    ] = None
