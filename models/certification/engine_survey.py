"""The figures of each installed engine that can run a model on one kind of CPU, and the engine that they choose."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.certification.certificate import LARGEST_ARITHMETIC_ERROR, REQUIRED_SPEEDUP
from models.errors import output_errors
from models.spec import DEFAULT_ENGINE
from models.system.atomic_file import write_atomically

# onnxruntime is lighter and loads faster, so another engine has to be faster than it by more than this.
CLEARLY_FASTER = 1.05
# From here on a run by onnxruntime says that another engine is faster.
WORTH_TELLING = 1.3


@dataclass(frozen=True, slots=True)
class EngineFigures:
    """One engine and the version of its package.

    `arithmetic_error` is the relative error of its int8 kernels on this CPU, `top1_agreement` the share of `images`
    with the label of fp32, None where the fp32 form is not known. Speeds are images/s. `failure` says why there are no
    figures.
    """

    engine: str
    version: str
    arithmetic_error: float = 0.0
    top1_agreement: float | None = None
    images: str = ""
    images_per_s: float = 0.0
    failure: str = ""


@dataclass(frozen=True, slots=True)
class EngineSurvey:
    """The figures of all engines, measured in turn on one CPU; `fp32_images_per_s`, of onnxruntime, is 0 where the
    fp32 form of the model is not known."""

    cpu: str
    threads: int
    batch_size: int
    required_agreement: float
    fp32_images_per_s: float
    engines: tuple[EngineFigures, ...]

    @property
    def versions(self) -> dict[str, str]:
        """The version of each engine that was measured."""
        return {figures.engine: figures.version for figures in self.engines}

    def figures_of(self, engine: str) -> EngineFigures:
        """The figures of an engine; those of a failure for one that was not measured."""
        missing = EngineFigures(engine, "", failure="not measured")
        return next((figures for figures in self.engines if figures.engine == engine), missing)

    def faults(self, engine: str) -> list[str]:
        """The reasons why an engine does not pass, with their figures; empty if it passes."""
        figures = self.figures_of(engine)
        if figures.failure:
            return [figures.failure]
        # NaN compares false with every bound, so each condition is what must hold.
        faults = []
        if not figures.arithmetic_error <= LARGEST_ARITHMETIC_ERROR:
            faults.append(
                f"its int8 kernels do not compute what they should on this CPU: relative error "
                f"{figures.arithmetic_error:.1%}, at most {LARGEST_ARITHMETIC_ERROR:.1%} allowed"
            )
        if figures.top1_agreement is not None and not figures.top1_agreement >= self.required_agreement:
            faults.append(
                f"agreement {figures.top1_agreement:.1%} on {figures.images} is below {self.required_agreement:.1%}"
            )
        if not figures.images_per_s > REQUIRED_SPEEDUP * self.fp32_images_per_s:
            faults.append(
                f"not faster than fp32: {figures.images_per_s:.1f} against {self.fp32_images_per_s:.1f} images/s"
            )
        return faults

    @property
    def choice(self) -> str:
        """The fastest engine that passes; onnxruntime where no engine is clearly faster, or none passes."""
        passing = [figures for figures in self.engines if not self.faults(figures.engine)]
        fastest = max(passing, key=lambda figures: figures.images_per_s, default=self.figures_of(DEFAULT_ENGINE))
        return fastest.engine if self.speedup(fastest.engine) > CLEARLY_FASTER else DEFAULT_ENGINE

    def speedup(self, engine: str) -> float:
        """The speed of an engine over that of what runs by default: int8 by onnxruntime, or fp32 where that fails."""
        is_int8 = not self.faults(DEFAULT_ENGINE)
        default = self.figures_of(DEFAULT_ENGINE).images_per_s if is_int8 else self.fp32_images_per_s
        return self.figures_of(engine).images_per_s / default if default else math.inf

    def verdict(self, engine: str) -> str:
        """One line on an engine: its figures, or why it is not used."""
        figures = self.figures_of(engine)
        if faults := self.faults(engine):
            return f"not certified: {'; '.join(faults)}"
        agreement = (
            "" if figures.top1_agreement is None else f"agreement {figures.top1_agreement:.1%} on {figures.images}, "
        )
        speed = f"{figures.images_per_s:.1f} images/s, {self.speedup(engine):.2f} times onnxruntime"
        return f"certified: {agreement}relative error {figures.arithmetic_error:.3%}, {speed}"

    def lines(self) -> list[tuple[str, str]]:
        """A line for each engine and the choice, for people to read, as pairs of a name and a text."""
        verdicts = [(f"by {engine} {version}", self.verdict(engine)) for engine, version in self.versions.items()]
        return [*verdicts, ("--engine auto runs", self.choice)]


def write_survey(path: Path, survey: EngineSurvey) -> None:
    """Write a survey as JSON. Raises OutputError."""
    with output_errors(path):
        write_atomically(path, json.dumps(asdict(survey), indent=1).encode())


def read_survey(path: Path) -> EngineSurvey | None:
    """The survey in a file, or None where the file is missing or holds no survey of figures that are possible."""
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        engines = tuple(EngineFigures(**figures) for figures in document.pop("engines"))
        survey = EngineSurvey(**document, engines=engines)
    except (OSError, TypeError, ValueError, KeyError, AttributeError, RecursionError):
        return None
    numbers = [survey.threads, survey.batch_size, survey.required_agreement, survey.fp32_images_per_s]
    texts = [survey.cpu]
    for figures in engines:
        numbers += [figures.arithmetic_error, figures.images_per_s]
        numbers += [] if figures.top1_agreement is None else [figures.top1_agreement]
        texts += [figures.engine, figures.version, figures.images, figures.failure]
    is_possible = all(map(_is_figure, numbers)) and all(isinstance(text, str) for text in texts)
    return survey if is_possible else None


def _is_figure(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
