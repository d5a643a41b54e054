"""Certificates of models that were never measured."""

from __future__ import annotations

import dataclasses

from models.certification.certificate import Certificate

_PASSED = Certificate(
    model_id="m@0",
    cpu="cpu",
    onnxruntime="1",
    recipe="portable",
    images="9 photos",
    top1_agreement=0.98,
    top3_agreement=1.0,
    divergence=0.01,
    arithmetic_error=0.001,
    threads=1,
    batch_size=16,
    int8_images_per_s=200.0,
    fp32_images_per_s=100.0,
    int8_bytes=1,
    fp32_bytes=4,
    int8_resident_bytes=1,
    fp32_resident_bytes=2,
)


def passed_certificate(**changes: object) -> Certificate:
    """Return a certificate that passes, with `changes` made to it."""
    return dataclasses.replace(_PASSED, **changes)  # type: ignore[arg-type]  # fields of the certificate
