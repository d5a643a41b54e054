"""`--done move:` and `--done delete` against an enemy: photos of colliding names, sizes and times.

The oracle: no bytes cease to exist without a durable row of exactly these bytes, unless the enemy destroyed them; no
row is of bytes that never lay under its name; no foreign file changes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pipeline.system.exclusive_rename import rename_without_replacing
from pipeline.tables.part_store import state_folder
from pipeline.watching import done_action, verified_photo
from tests.support.watch_kit import SETTLE_S, Clock, Watched, digest, rows_in

NAMES = st.sampled_from(["a.bmp", "b.bmp", "sub/a.bmp"])
# New bytes, those of an earlier photo again, or none, which cannot be labelled; all others are of one size.
CONTENTS = st.sampled_from(["new", "new", "new", "again", "empty"])
_TIMES_NS = st.sampled_from([1_700_000_000_000_000_000, 1_700_000_002_000_000_000])
_FOREIGN = {"a.bmp": b"foreign one", "keep.txt": b"foreign two", "sub/a.bmp": b"one"}
_SCRATCH = "/dev/shm" if Path("/dev/shm").is_dir() else None


class _KilledError(BaseException):
    """Ends a process at a moment that the test chooses."""


class InboxAgainstEnemy(RuleBasedStateMachine):
    """The model: what lies under each name, all that ever did, and what the enemy itself destroyed."""

    done = "move"

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.folder = Path(tempfile.mkdtemp(prefix="watch-enemy-", dir=_SCRATCH))
        self.inbox = self.folder / "inbox"
        for place, content in _FOREIGN.items():
            path = self.folder / "done" / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.inbox.mkdir()
        self.clock = Clock()
        self.history: dict[str, set[str]] = defaultdict(set)
        self.safe: set[bytes] = set()
        self.contents: list[bytes] = []

    @initialize()
    def start(self) -> None:
        self.watched = Watched(self.folder, self.clock, done=self.done)

    @rule(name=NAMES, kind=CONTENTS, mtime_ns=_TIMES_NS)
    def overwrite_in_place(self, name: str, kind: str, mtime_ns: int) -> None:
        self._put(name, kind, mtime_ns)

    @rule(name=NAMES, kind=CONTENTS, mtime_ns=_TIMES_NS)
    def replace_by_rename(self, name: str, kind: str, mtime_ns: int) -> None:
        self._replace(name, kind, mtime_ns)

    @rule(name=NAMES, other=NAMES)
    def swap(self, name: str, other: str) -> None:
        one, two, spare = self.inbox / name, self.inbox / other, self.folder / "spare"
        if name != other and one.exists() and two.exists():
            one.rename(spare)
            two.rename(one)
            spare.rename(two)
            self._remember()

    @rule(name=NAMES, kind=CONTENTS, mtime_ns=_TIMES_NS, moment=st.sampled_from(["hash", "rename", "renamed"]))
    def replace_at_the_next_done_action(self, name: str, kind: str, mtime_ns: int, moment: str) -> None:
        owner = "_has_bytes" if moment == "hash" else "rename_without_replacing"
        original = getattr(verified_photo, owner)

        def once(*arguments: object) -> object:
            self.patch.setattr(verified_photo, owner, original)
            if moment == "rename":
                self._replace(name, kind, mtime_ns)
            result = original(*arguments)
            if moment != "rename":
                self._replace(name, kind, mtime_ns)
            return result

        self.patch.setattr(verified_photo, owner, once)

    @rule(seconds=st.sampled_from([0.5, SETTLE_S, 5.0]))
    def time_passes(self, seconds: float) -> None:
        self.watched.run_for(seconds)

    @rule(is_index_lost=st.booleans())
    def killed_and_started_again(self, is_index_lost: bool) -> None:
        self.watched.kill()
        for path in state_folder(self.folder / "labels").glob("index.sqlite*") if is_index_lost else ():
            path.unlink()
        self.start()

    @rule(at=st.sampled_from([(done_action, "sync_folder"), (verified_photo, "_is_open_for_writing")]))
    def killed_in_the_middle_of_a_done_action(self, at: tuple[object, str]) -> None:
        def die(*_: object) -> None:
            raise _KilledError

        original = getattr(*at)
        self.patch.setattr(*at, die)
        try:
            self.watched.run_for(SETTLE_S + 3.0)
        except _KilledError:
            self.killed_and_started_again(False)
        finally:
            self.patch.setattr(*at, original)

    @rule(is_refused=st.booleans())
    def other_file_system(self, is_refused: bool) -> None:
        original = rename_without_replacing

        def across(path: Path, new_path: Path) -> None:
            if self.folder / "done" in new_path.parents:
                raise OSError(18, "Invalid cross-device link")
            original(path, new_path)

        if is_refused and self.done == "move":
            self.patch.setattr(verified_photo, "rename_without_replacing", across)
            self.watched.run_for(SETTLE_S + 3.0)
            self.patch.undo()

    @rule()
    def left_alone(self) -> None:
        for _ in range(3):
            self.watched.drain()
        rows = set(rows_in(self.folder / "labels"))
        for path in self._visible():
            content = path.read_bytes()
            name = str(path.relative_to(self.inbox))
            assert (name, digest(content) if content else None) in rows, f"{name} has no row"
            assert not content or self.done == "keep", f"{name} was not moved away: {self.watched.stats.health}"

    @invariant()
    def no_bytes_are_gone_without_their_row_and_no_row_is_of_other_bytes(self) -> None:
        rows = rows_in(self.folder / "labels")
        assert len(rows) == len(set(rows))
        assert all(content is None or content in self.history[name] or ".1." in name for name, content in rows)
        labelled = {content for _, content in rows}
        places = [self.inbox, self.folder / "done"]
        there = {path.read_bytes() for place in places for path in place.rglob("*") if path.is_file()}
        for content in self.safe:
            assert content in there or digest(content) in labelled, f"{content!r} is gone without its row"
        for place, content in _FOREIGN.items():
            assert (self.folder / "done" / place).read_bytes() == content

    def teardown(self) -> None:
        self.patch.undo()
        self.left_alone()
        self.watched.kill()
        shutil.rmtree(self.folder)

    def _visible(self) -> list[Path]:
        return [path for path in self.inbox.rglob("*") if path.is_file() and not path.name.startswith(".")]

    def _put(self, name: str, kind: str, mtime_ns: int) -> None:
        path = self.inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._destroyed(path)
        path.write_bytes(self._content(kind))
        os.utime(path, ns=(mtime_ns, mtime_ns))
        self._remember()

    def _replace(self, name: str, kind: str, mtime_ns: int) -> None:
        path = self.inbox / name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = self.folder / "new"
        new.write_bytes(self._content(kind))
        os.utime(new, ns=(mtime_ns, mtime_ns))
        self._destroyed(path)
        new.rename(path)
        self._remember()

    def _content(self, kind: str) -> bytes:
        if kind == "again" and self.contents:
            return self.contents[len(self.contents) // 2]
        if kind == "empty":
            return b""
        self.contents.append(f"{len(self.contents):04d}".encode())
        return self.contents[-1]

    def _destroyed(self, path: Path) -> None:
        """Note that the enemy destroys what lies at `path`: bytes that lie nowhere else need no row any more."""
        if path.exists():
            content = path.read_bytes()
            if sum(other.read_bytes() == content for other in self._visible()) == 1:
                self.safe.discard(content)

    def _remember(self) -> None:
        for path in self._visible():
            content = path.read_bytes()
            self.history[str(path.relative_to(self.inbox))].add(digest(content))
            self.safe.add(content)


class InboxThatIsEmptied(InboxAgainstEnemy):
    """The same with `--done delete`."""

    done = "delete"


_SETTINGS = settings(
    max_examples=40, stateful_step_count=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
TestMovedAway = InboxAgainstEnemy.TestCase
TestMovedAway.settings = _SETTINGS
TestDeleted = InboxThatIsEmptied.TestCase
TestDeleted.settings = _SETTINGS
