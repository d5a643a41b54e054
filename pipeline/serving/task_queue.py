"""The photos of clients that wait for a label or are at work, as the files of a live pass."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count

from pipeline.records import FileRef, Row
from pipeline.serving.upload import Upload


@dataclass(slots=True, eq=False)
class LabelTask:
    """One photo of a client; `is_forgotten` once the client has left. `waiting_since_s` is by the monotonic clock."""

    upload: Upload
    is_forgotten: bool = False
    waiting_since_s: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """Why a photo has no row although nothing is known against the photo itself: the labeller failed."""

    reason: str


Answer = tuple[LabelTask, "Row | Unlabelled"]


class TaskQueue(Iterator[FileRef]):
    """The tasks that wait, as the files of a live pass, and the tasks that workers have.

    A work ends after `share` files, so that idle decode workers divide what waits among themselves.
    """

    def __init__(self) -> None:
        self.waiting: deque[LabelTask] = deque()
        self.at_work: dict[str, LabelTask] = {}
        self._numbers = count()
        self._share = self._left = self._batch_size = 1
        self._is_paused = False

    @property
    def is_empty(self) -> bool:
        """Whether no task waits and none is at work."""
        return not self.waiting and not self.at_work

    def plan(self, idle_workers: int, batch_size: int, is_paused: bool) -> None:
        """Decide how many files a Work has from now on; while paused there are none."""
        self._batch_size = batch_size
        self._share = self._left = max(1, min(batch_size, math.ceil(len(self.waiting) / max(1, idle_workers))))
        self._is_paused = is_paused

    def __next__(self) -> FileRef:
        while self.waiting and not self._is_paused:
            if not self._left:
                self._left = self._share
                raise StopIteration
            task = self.waiting.popleft()
            if task.is_forgotten:
                task.upload.close()
                continue
            self._left -= 1
            if not self._left and self._share >= self._batch_size:
                # A full Work ends without asking for a further file.
                self._left = self._share
            name = str(next(self._numbers))
            self.at_work[name] = task
            return task.upload.sealed_ref(name)
        raise StopIteration

    def finish(self, row: Row) -> Answer:
        """Return the task of `row`, with the row under the name that the client gave."""
        task = self.at_work.pop(row.file_name)
        return task, replace(row, file_name=task.upload.file_name)

    def take_all(self) -> list[LabelTask]:
        """Return all tasks, which then neither wait nor are at work."""
        tasks = [*self.at_work.values(), *self.waiting]
        self.at_work.clear()
        self.waiting.clear()
        return tasks
