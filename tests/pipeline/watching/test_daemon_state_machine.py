"""`watch-folder` against a model: whatever happens to files and processes, each name and content gets one row."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pipeline.tables.part_store import state_folder
from pipeline.watching.file_events import Hints
from pipeline.watching.settle_tracker import Hint
from tests.support.watch_kit import SETTLE_S, Clock, Watched, digest, rows_in

NAMES = st.sampled_from(["a.jpg", "b.jpg", "sub/c.jpg", "sub/deep/d.png"])
CONTENTS = st.binary(min_size=1, max_size=3)
_SCRATCH = "/dev/shm" if Path("/dev/shm").is_dir() else None


class _KilledError(BaseException):
    """Ends a process at a moment that the test chooses."""


class FakeEvents:
    """Hints as the test sets them: true ones, none, or false ones."""

    def __init__(self) -> None:
        self.hints = Hints()

    def pop_hints(self) -> Hints:
        hints, self.hints = self.hints, Hints()
        return hints

    def failure_reason(self) -> str | None:
        return None

    def watch_count(self) -> int:
        return 1 << 30

    def reset_heartbeat(self) -> None:
        """There is no heartbeat."""


class InboxAgainstModel(RuleBasedStateMachine):
    """The model: the content of every name now, all its contents so far, and the rows that must exist."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="watch-model-", dir=_SCRATCH))
        self.inbox = self.folder / "inbox"
        self.inbox.mkdir()
        self.clock = Clock()
        self.mtime_ns = 1_700_000_000_000_000_000
        self.files: dict[str, bytes] = {}
        self.history: dict[str, set[str]] = defaultdict(set)
        self.required: set[tuple[str, str]] = set()

    @initialize()
    def start(self) -> None:
        self.watched = Watched(self.folder, self.clock)
        self.events = FakeEvents()
        self.watched.event_supervisor._observer = self.events  # type: ignore[assignment]  # the same methods

    @rule(name=NAMES, content=CONTENTS)
    def create_or_overwrite(self, name: str, content: bytes) -> None:
        self._write(name, content)

    @rule(name=NAMES, more=CONTENTS)
    def append(self, name: str, more: bytes) -> None:
        if name in self.files:
            self._write(name, self.files[name] + more)

    @rule(name=NAMES)
    def touch(self, name: str) -> None:
        if name in self.files:
            self._set_time(name)

    @rule(name=NAMES, other=NAMES)
    def rename(self, name: str, other: str) -> None:
        if name in self.files and name != other:
            (self.inbox / other).parent.mkdir(parents=True, exist_ok=True)
            (self.inbox / name).rename(self.inbox / other)
            self.files[other] = self.files.pop(name)
            self.history[other].add(digest(self.files[other]))

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        if name in self.files:
            (self.inbox / name).unlink()
            del self.files[name]

    @rule(name=NAMES, hint=st.sampled_from(Hint))
    def event_arrives(self, name: str, hint: Hint) -> None:
        self.events.hints.files[str(self.inbox / name)] = hint

    @rule(folder=st.sampled_from(["sub", "sub/deep"]))
    def folder_event_arrives(self, folder: str) -> None:
        self.events.hints.folders.add(str(self.inbox / folder))

    @rule()
    def events_are_dropped(self) -> None:
        self.events.hints = Hints(scan=True)

    @rule(seconds=st.sampled_from([0.1, 0.5, SETTLE_S, 5.0]))
    def time_passes(self, seconds: float) -> None:
        self.watched.run_for(seconds)

    @rule(days=st.sampled_from([-1, 1]))
    def wall_clock_jumps(self, days: int) -> None:
        self.clock.wall_us += days * 86_400_000_000

    @rule()
    def killed_and_started_again(self) -> None:
        self.watched.kill()
        self.start()

    @rule()
    def killed_between_a_part_and_its_index(self) -> None:
        def die(*_: object) -> None:
            raise _KilledError

        self.watched.sink._row_index.record = die  # type: ignore[method-assign, assignment]
        with contextlib.suppress(_KilledError):
            self.watched.run_for(SETTLE_S + 1.0)
        self.killed_and_started_again()

    @rule(is_damaged=st.booleans())
    def killed_and_its_index_lost(self, is_damaged: bool) -> None:
        self.watched.kill()
        for path in (state_folder(self.folder / "labels")).glob("index.sqlite*"):
            if is_damaged:
                path.write_bytes(b"no database at all")
            else:
                path.unlink()
        self.start()

    @rule()
    def photo_changes_while_it_is_read(self) -> None:
        def overwrite_once(ref: object) -> None:
            self.watched.labeller.before_read = lambda ref: None
            name = getattr(ref, "name", "")
            if name in self.files:
                self._write(name, self.files[name] + b"!")

        self.watched.labeller.before_read = overwrite_once

    @rule()
    def left_alone(self) -> None:
        self.watched.drain()
        self.required |= {(name, digest(content)) for name, content in self.files.items()}
        assert self.required <= set(rows_in(self.watched.labels))

    @invariant()
    def every_row_is_of_a_real_photo_and_there_once(self) -> None:
        rows = rows_in(self.folder / "labels")
        assert len(rows) == len(set(rows))
        assert all(content in self.history[name] for name, content in rows)
        assert self.required <= set(rows)

    def teardown(self) -> None:
        self.left_alone()
        self.watched.kill()
        shutil.rmtree(self.folder)

    def _write(self, name: str, content: bytes) -> None:
        path = self.inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.files[name] = content
        self.history[name].add(digest(content))
        self._set_time(name)

    def _set_time(self, name: str) -> None:
        # Times from the real clock might be equal for two writes this close together.
        self.mtime_ns += 1_000_000
        os.utime(self.inbox / name, ns=(self.mtime_ns, self.mtime_ns))


TestInboxAgainstModel = InboxAgainstModel.TestCase
TestInboxAgainstModel.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
