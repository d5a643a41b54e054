"""Two daemons whose inboxes, labels and folders for done photos collide, and are restored, exchanged and unmounted.

The oracle: no bytes cease to exist without a durable row of them, unless the enemy itself destroyed them or their row;
no row is of bytes that never lay under its name; no foreign file changes; a photo that is left alone gets its row.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pipeline.errors import LabelDirError
from pipeline.tables.part_store import state_folder
from tests.support.watch_kit import SETTLE_S, Clock, Watched, digest, rows_in
from tests.trial.damage import SCRATCH, steps

SIDES = st.sampled_from(["one", "two"])
NAMES = st.sampled_from(["a.bmp", "b.bmp", "sub/a.bmp"])
TIMES_NS = st.sampled_from([1_700_000_000_000_000_000, 1_700_000_002_000_000_000])
FOREIGN = {"a.bmp": b"foreign one", "sub/a.bmp": b"one"}


class TwoWatchers(RuleBasedStateMachine):
    """The model: what ever lay under each name of each inbox, and which bytes the enemy did not destroy."""

    done = "move"

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="two-watchers-", dir=SCRATCH))
        self.done_folder = self.folder / "done"
        for name, content in FOREIGN.items():
            (self.done_folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.done_folder / name).write_bytes(content)
        self.clock = Clock()
        self.history: dict[str, set[str]] = defaultdict(set)
        self.safe: set[bytes] = set()
        self.count = 0
        self.watched: dict[str, Watched] = {}
        for side in ("one", "two"):
            (self.folder / side / "inbox").mkdir(parents=True)
            # Both move their photos into one folder.
            (self.folder / side / "done").symlink_to(self.done_folder)

    @initialize()
    def start(self) -> None:
        for side in ("one", "two"):
            self._start(side)

    @rule(side=SIDES, name=NAMES, time_ns=TIMES_NS, is_again=st.booleans())
    def write(self, side: str, name: str, time_ns: int, is_again: bool) -> None:
        self.count += not is_again
        self._write(side, name, time_ns, f"{self.count:04d}".encode())

    @rule(side=SIDES, seconds=st.sampled_from([0.5, SETTLE_S, 5.0]))
    def time_passes(self, side: str, seconds: float) -> None:
        self.watched[side].run_for(seconds)

    @rule(side=SIDES)
    def killed_and_started_again(self, side: str) -> None:
        self._stop(side)
        self._start(side)

    @rule(side=SIDES)
    def index_is_lost(self, side: str) -> None:
        self._stop(side)
        for path in state_folder(self.folder / side / "labels").glob("index.sqlite*"):
            path.unlink()
        self._start(side)

    @rule(side=SIDES)
    def labels_come_from_a_backup(self, side: str) -> None:
        """What was labelled since is gone with the enemy, and so are the rows that only the backup lacks."""
        self._stop(side)
        labels, backup = self.folder / side / "labels", self.folder / f"backup-{side}"
        if backup.exists():
            lost = {content for _, content in rows_in(labels)} - {content for _, content in rows_in(backup)}
            self.safe = {content for content in self.safe if digest(content) not in lost or self._is_there(content)}
            shutil.rmtree(labels)
            shutil.copytree(backup, labels)
        self._start(side)

    @rule(side=SIDES)
    def labels_are_copied_to_a_backup(self, side: str) -> None:
        backup = self.folder / f"backup-{side}"
        shutil.rmtree(backup, ignore_errors=True)
        shutil.copytree(self.folder / side / "labels", backup)

    @rule(side=SIDES, name=NAMES, time_ns=TIMES_NS)
    def a_photo_that_only_lost_labels_knew_comes_back(self, side: str, name: str, time_ns: int) -> None:
        self.write(side, "first.bmp", time_ns, is_again=False)
        self.time_passes(side, 2 * SETTLE_S + 5.0)
        self.labels_are_copied_to_a_backup(side)
        self.write(side, name, time_ns, is_again=False)
        self.time_passes(side, 2 * SETTLE_S + 5.0)
        self.labels_come_from_a_backup(side)
        self.write(side, name, time_ns, is_again=True)
        self.time_passes(side, 2 * SETTLE_S + 5.0)

    @rule()
    def labels_are_exchanged(self) -> None:
        for side in ("one", "two"):
            self._stop(side)
        one, two, spare = self.folder / "one" / "labels", self.folder / "two" / "labels", self.folder / "spare"
        one.rename(spare)
        two.rename(one)
        spare.rename(two)
        for side in ("one", "two"):
            self._start(side)

    @rule(side=SIDES)
    def inbox_is_unmounted_for_a_while(self, side: str) -> None:
        inbox, away = self.folder / side / "inbox", self.folder / f"away-{side}"
        inbox.rename(away)
        inbox.mkdir()
        self.watched[side].run_for(SETTLE_S + 5.0)
        inbox.rmdir()
        away.rename(inbox)

    @rule(name=NAMES)
    def inbox_photo_is_copied_to_the_other(self, name: str) -> None:
        path = self.folder / "one" / "inbox" / name
        if path.exists():
            self._write("two", name, path.stat().st_mtime_ns, path.read_bytes())

    @rule(side=SIDES)
    def left_alone(self, side: str) -> None:
        for _ in range(3):
            self.watched[side].drain()
        rows = set(rows_in(self.folder / side / "labels"))
        for path in self._photos(side):
            name = str(path.relative_to(self.folder / side / "inbox"))
            assert (name, digest(path.read_bytes())) in rows, f"{name} of {side} has no row"

    @invariant()
    def no_bytes_are_gone_without_their_row_and_no_row_is_of_other_bytes(self) -> None:
        rows = [row for side in ("one", "two") for row in rows_in(self.folder / side / "labels")]
        assert all(content in self.history[name] for name, content in rows)
        labelled = {content for _, content in rows}
        for content in self.safe:
            assert self._is_there(content) or digest(content) in labelled, f"{content!r} is gone without its row"
        for name, content in FOREIGN.items():
            assert (self.done_folder / name).read_bytes() == content

    def teardown(self) -> None:
        for side in ("one", "two"):
            self.left_alone(side)
            self._stop(side)
        shutil.rmtree(self.folder)

    def _start(self, side: str) -> None:
        try:
            self.watched[side] = Watched(self.folder / side, self.clock, done=self.done)
        except LabelDirError as error:
            # Labels of which no part is the one that was written there: a person decides, here that all is well.
            assert "is another disk to be mounted" in str(error), error
            for path in state_folder(self.folder / side / "labels").glob("index.sqlite*"):
                path.unlink()
            self.watched[side] = Watched(self.folder / side, self.clock, done=self.done)

    def _stop(self, side: str) -> None:
        self.watched.pop(side).kill()

    def _write(self, side: str, name: str, time_ns: int, content: bytes) -> None:
        path = self.folder / side / "inbox" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        old = path.read_bytes() if path.exists() else None
        path.write_bytes(content)
        os.utime(path, ns=(time_ns, time_ns))
        if old is not None and not self._is_there(old):
            self.safe.discard(old)
        self.history[name].add(digest(content))
        self.safe.add(content)

    def _photos(self, side: str) -> list[Path]:
        inbox = self.folder / side / "inbox"
        return [path for path in inbox.rglob("*") if path.is_file() and not path.name.startswith(".")]

    def _is_there(self, content: bytes) -> bool:
        paths = [*self._photos("one"), *self._photos("two"), *(p for p in self.done_folder.rglob("*") if p.is_file())]
        return any(path.read_bytes() == content for path in paths)


class TwoWatchersThatDelete(TwoWatchers):
    """The same with `--done delete`."""

    done = "delete"


TestTwoWatchersThatMove = TwoWatchers.TestCase
TestTwoWatchersThatMove.settings = steps(20, 25)
TestTwoWatchersThatDelete = TwoWatchersThatDelete.TestCase
TestTwoWatchersThatDelete.settings = steps(20, 25)
