"""What is wanted of taught models, beside means over the seeds, and the texts of docs/teaching.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from models.teaching.confidence import BINS

Line = dict[str, Any]

# Figure, part it is of, and what is wanted: at least, or at most where the sign is negative.
WANTED: tuple[tuple[str, str, float], ...] = (
    ("default", "top1", 0.90),
    ("default", "ece", -0.03),
    ("default", "int8_loss", -0.003),
    ("default", "agreement", 0.985),
    ("default", "unlike_rejected", 0.97),
    ("default", "largest_process_mb", -2000),
    ("default", "test_top1", 0.91),
    ("default", "test_top3", 0.985),
    ("first look", "top1", 0.86),
    ("first look", "seconds", -150),
    ("first look", "test_top1", 0.88),
    ("lite2", "top1", 0.91),
    ("lite2", "test_top1", 0.925),
    ("1 photo a class", "top1", 0.50),
    ("2 photos a class", "top1", 0.60),
    ("5 photos a class", "top1", 0.71),
    ("10 photos a class", "top1", 0.79),
    ("sister products", "rejected", 0.55),
    ("labels wrong at random", "found", 1.0),
    ("labels wrong by a sister", "found", 0.97),
    ("ten photos more", "seconds", -60),
    ("without bfloat16", "top1", 0.90),
)
_SHARES = ("top1", "top3", "ece", "int8_loss", "agreement", "rejected", "found", "unsure")
_SHARES_BY_START = ("test_", "unlike_", "ece_", "fp32_", "top1_", "rejected_", "unsure_")
_CHOSEN = ("seed", "minutes", "epochs", "moved", "photos", "photos_where_taught")
_DRAWS = 500


def chance_error(probabilities: npt.NDArray[np.float64]) -> float:
    """The calibration error that so few photos would show on average if every probability, float64 [n, classes], were
    exactly right: answers drawn by chance fall unevenly into the bins."""
    best = probabilities.max(axis=1)
    bins = np.minimum((best * BINS).astype(np.int64), BINS - 1)
    right = np.random.default_rng(0).random((_DRAWS, len(best))) < best
    sums = [np.abs((right[:, bins == one] - best[bins == one]).sum(axis=1)) for one in range(BINS)]
    return float(np.sum(sums, axis=0).mean() / len(best))


def table(lines: Sequence[Line]) -> Iterator[str]:
    """Each figure that is wanted and was measured: mean, worst, number of seeds, and the wish."""
    for part, figure, wanted in WANTED:
        values = _values(lines, part, figure)
        if values:
            mean, worst = float(np.mean(values)), (min if wanted > 0 else max)(values)
            is_met = mean >= wanted if wanted > 0 else mean <= -wanted
            wish = f"wanted: at {'least' if wanted > 0 else 'most'} {abs(wanted):g}, {'met' if is_met else 'missed'}"
            yield f"{part}, {figure}: {mean:.4g} (worst of {len(values)}: {worst:.4g}); {wish}"


def texts(lines: Sequence[Line]) -> dict[str, str]:
    """The texts of docs/teaching.md by their marks, `teaching-PART-FIGURE`: the mean, and each seed where there are
    several."""
    found = {}
    for part, figure in sorted({(line["part"], figure) for line in lines for figure in line if figure not in _CHOSEN}):
        values = _values(lines, part, figure)
        if values:
            found[f"teaching-{part}-{figure}".replace(" ", "-").replace("_", "-")] = _text(figure, values)
    return found


def _text(figure: str, values: Sequence[float]) -> str:
    def one(value: float) -> str:
        is_share = figure in _SHARES or figure.startswith(_SHARES_BY_START)
        return f"{value:.1%}" if is_share else f"{value:,.1f}".removesuffix(".0")

    several = f" ({', '.join(map(one, values))})" if len(values) > 1 else ""
    return one(float(np.mean(values))) + several


def _values(lines: Iterable[Line], part: str, figure: str) -> list[float]:
    found = [line.get(figure) for line in lines if line["part"] == part]
    return [float(value) for value in found if isinstance(value, int | float) and not isinstance(value, bool)]
