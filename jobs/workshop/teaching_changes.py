"""What teaching again changed, class by class, on the photos that judged the model before and judge it now."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.workshop.teaching import TaughtModel
from models.teaching.confidence import interval


@dataclass(frozen=True, slots=True)
class ClassChange:
    """A class's photos that judged both models, how many were right before and are now, and a word about it."""

    label: str
    photos: int
    right_before: int
    right_now: int
    told: str

    @property
    def is_worse(self) -> bool:
        """Whether fewer are right now than the interval of what was right before allows."""
        return self.right_now / max(1, self.photos) < interval(self.right_before, self.photos)[0]


def class_changes(taught: TaughtModel) -> tuple[ClassChange, ...]:
    """Classes that were added, removed, or answer otherwise than before; worse ones first."""
    before = taught.before
    if before is None:
        return ()
    photos = taught.decoded.photos
    now = {photos.digests[row]: photos.labels[int(best)] for row, best in _answers(taught)}
    counts: dict[str, list[int]] = {}
    for digest, (label, answer) in before.answers.items():
        if digest in now:
            count = counts.setdefault(label, [0, 0, 0])
            count[0] += 1
            count[1] += answer == label
            count[2] += now[digest] == label
    changes = [
        ClassChange(label, count[0], count[1], count[2], "worse" if count[2] < count[1] else "better")
        for label, count in counts.items()
        if count[1] != count[2]
    ]
    added = [ClassChange(one, 0, 0, 0, "new") for one in photos.labels if one not in before.labels]
    removed = [ClassChange(one, 0, 0, 0, "removed") for one in before.labels if one not in photos.labels]
    return (*sorted(changes, key=lambda one: (one.right_now - one.right_before, one.label)), *added, *removed)


def worse_lines(taught: TaughtModel) -> list[str]:
    """A sentence for each class that answers fewer photos rightly than before."""
    return [
        f"{one.label}: {one.right_now} of {one.photos} right, {one.right_before} before"
        + (", beyond chance" if one.is_worse else "")
        for one in class_changes(taught)
        if one.told == "worse"
    ]


def _answers(taught: TaughtModel) -> list[tuple[int, int]]:
    return list(zip(taught.judged.tolist(), taught.int8.argmax(axis=1).tolist(), strict=True))
