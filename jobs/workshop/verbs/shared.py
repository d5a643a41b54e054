"""What the verbs of `label-models` have in common: examples in the help, notices, certificates as exit codes."""

from __future__ import annotations

import logging

from jobs.cli.columns import aligned

REFUSED = 3


def examples(*lines: str) -> str:
    """Return `lines` as the end of a verb's help."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def print_certificate(certificate: object) -> int:
    """Print a certificate, and return the exit code it stands for."""
    from jobs.cli.standard_streams import print_text
    from models.certification.certificate import Certificate

    if not isinstance(certificate, Certificate):
        print_text("int8 is refused on this CPU: label-dir runs fp32")
        return REFUSED
    print_text("\n".join(aligned(certificate.lines())))
    return 0 if certificate.passed else REFUSED


def require_build(purpose: str) -> None:
    """Raise InputMissingError where the packages that building a model needs are not installed."""
    from models.system.installed import require_packages

    require_packages(purpose, "torch", "onnx")


def notify(sentence: str) -> None:
    """Log what takes long or was decided while a model is built."""
    logging.getLogger(__name__).warning("%s", sentence)
