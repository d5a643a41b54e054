"""What `label-models teach` shows: a bar while it teaches, and a few lines at the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.workshop.teaching import TaughtModel
from jobs.workshop.teaching_changes import worse_lines
from models.system.isolated_call import Notify
from models.system.outside_text import terminal_text
from models.teaching.lesson import StepsDone


@contextmanager
def teaching_bar(notify: Notify) -> Iterator[tuple[Notify, Callable[[int, int], None]]]:
    """A notify that shows progress as a bar and passes on everything else, and what counts decoded photos.

    No bar where stderr is no terminal.
    """
    from tqdm import tqdm

    tqdm.monitor_interval = 0
    style = "{desc} {percentage:3.0f}%|{bar}|"
    hidden = not sys.stderr.isatty()
    with tqdm(total=1.0, bar_format=style, dynamic_ncols=True, leave=False, file=sys.stderr, disable=hidden) as bar:

        def show(text: str, done: float) -> None:
            bar.set_description_str(text, refresh=False)
            bar.n = done
            bar.refresh()

        def told(text: str) -> None:
            if isinstance(text, StepsDone):
                show(text, text.done)
            else:
                bar.clear()
                notify(text)

        yield told, lambda done, total: show(f"reading photos, {done} of {total}", done / max(1, total))


def summary(name: str, taught: TaughtModel, report: Path) -> list[str]:
    """The lines that end the command: how good, int8 against fp32, speed, threshold, and where the report lies."""
    figures, certificate, lesson = taught.figures, taught.certificate, taught.lesson
    if figures.top1 is None or figures.top3 is None:
        good = "accuracy unknown: there are too few photos to keep some out"
    else:
        low, high = figures.interval
        good = f"Top-1 {figures.top1:.1%} ({low:.1%} to {high:.1%}), Top-3 {figures.top3:.1%}"
        good += f" on {figures.judged} photos that were not taught"
        worst = figures.worst
        if worst is not None and worst.right < worst.judged:
            good += f"; worst class {terminal_text(worst.label)}, {worst.right} of {worst.judged}"
    if certificate.int8_top1 is not None and certificate.fp32_top1 is not None:
        exact = f"int8 {certificate.int8_top1:.2%}, fp32 {certificate.fp32_top1:.2%}, "
    else:
        exact = ""
    certain = ""
    if figures.certain_share is not None and figures.certain_precision is not None:
        certain = f": {figures.certain_share:.1%} of photos are sure, {figures.certain_precision:.1%} of those right"
    place = f"label-dir -m {name} PHOTOS OUT runs it" if taught.is_in_place else "the model before stays in its place"
    return [
        f"{name}: {good}",
        f"{exact}agreement {certificate.top1_agreement:.1%}; "
        f"{'certified' if certificate.passed else certificate.verdict()}",
        f"{certificate.int8_images_per_s:.0f} images/s a thread, {certificate.speedup:.2f} times fp32",
        f"unsure below a probability of {lesson.min_probability:.3f}{certain}",
        f"taught in {taught.seconds:.0f} s; report: {report}; {place}",
        *(f"worse than before: {terminal_text(line)}" for line in worse_lines(taught)),
    ]
