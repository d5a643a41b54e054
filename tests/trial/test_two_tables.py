"""Two folders of photos and two tables, brought up to date in any order while everything around them collides.

What a run promises, and no more: each photo of the folder has one row, whose sha256 and labels are of bytes that lay
under that name with that size and time. A row of a file whose name, size and time are those of the row is kept unread,
so bytes that were exchanged under the same three may have the row of their forerunner until one of the three changes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pipeline.errors import LabelDirError, PhotosGoneError, UsageError
from pipeline.gone_guard import GoneLimit
from pipeline.tables.reader import read_rows
from pipeline.tables.source import sidecar_of
from tests.support.bytes_labeller import TIME_NS, bring_up_to_date, labels_of, put
from tests.trial.damage import SCRATCH, steps

FOLDERS = st.sampled_from(["2023", "2024"])
OUTS = st.sampled_from(["labels.parquet", "labels.csv"])
NAMES = st.sampled_from(["a.jpg", "b.jpg", "sub/a.jpg"])
TIMES_NS = st.sampled_from([TIME_NS, TIME_NS + 2_000_000_000])
KINDS = st.sampled_from(["new", "new", "again", "empty"])
FOREIGN = {"labels.parquet": b"PAR1 of another program", "labels.csv": b"file,size\na.jpg,4\n"}
Version = tuple[str, int, int]


class TwoTables(RuleBasedStateMachine):
    """The model: for each folder every content that lay under a name, size and time; which folder each table is of."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="two-tables-", dir=SCRATCH))
        self.versions: dict[str, dict[Version, set[bytes]]] = {"2023": defaultdict(set), "2024": defaultdict(set)}
        self.contents: list[bytes] = []
        self.owner: dict[str, str | None] = dict.fromkeys(FOREIGN)
        self.is_foreign = dict.fromkeys(FOREIGN, False)
        self.is_record_damaged = dict.fromkeys(FOREIGN, False)
        for name in ("2023", "2024"):
            (self.folder / name).mkdir()

    @rule(folder=FOLDERS, name=NAMES, kind=KINDS, time_ns=TIMES_NS)
    def write(self, folder: str, name: str, kind: str, time_ns: int) -> None:
        """Add a photo, or overwrite one; all contents but the empty one have one size."""
        if not self._is_away(folder):
            put(self.folder / folder / name, self._content(kind), time_ns)
            self._remember()

    @rule(folder=FOLDERS, name=NAMES, other=NAMES)
    def swap(self, folder: str, name: str, other: str) -> None:
        one, two, spare = self.folder / folder / name, self.folder / folder / other, self.folder / "spare"
        if name != other and one.exists() and two.exists():
            one.rename(spare)
            two.rename(one)
            spare.rename(two)
            self._remember()

    @rule(folder=FOLDERS, name=NAMES, other=NAMES)
    def rename(self, folder: str, name: str, other: str) -> None:
        one, two = self.folder / folder / name, self.folder / folder / other
        if one.exists() and not two.exists():
            two.parent.mkdir(exist_ok=True)
            one.rename(two)
            self._remember()

    @rule(folder=FOLDERS, name=NAMES)
    def delete(self, folder: str, name: str) -> None:
        (self.folder / folder / name).unlink(missing_ok=True)

    @rule(folder=FOLDERS, leaves_mount_point=st.booleans())
    def unmount(self, folder: str, leaves_mount_point: bool) -> None:
        if not self._is_away(folder):
            (self.folder / folder).rename(self.folder / f"away-{folder}")
            if leaves_mount_point:
                (self.folder / folder).mkdir()

    @rule(folder=FOLDERS)
    def mount(self, folder: str) -> None:
        if self._is_away(folder):
            shutil.rmtree(self.folder / folder, ignore_errors=True)
            (self.folder / f"away-{folder}").rename(self.folder / folder)

    @rule(out=OUTS)
    def other_program_saves_the_table_in_another_order(self, out: str) -> None:
        path = self.folder / out
        if not path.exists() or self.is_foreign[out]:
            return
        if out.endswith(".parquet"):
            pq.write_table(pq.read_table(path).sort_by([("file_name", "descending")]), path)
        else:
            table = pa_csv.read_csv(path).sort_by([("file_name", "descending")])
            pa_csv.write_csv(table, path)

    @rule(out=OUTS)
    def other_program_puts_its_own_file_there(self, out: str) -> None:
        (self.folder / out).write_bytes(FOREIGN[out])
        self.is_foreign[out] = True

    @rule(out=OUTS)
    def foreign_file_goes(self, out: str) -> None:
        if self.is_foreign[out]:
            (self.folder / out).unlink()
            self.is_foreign[out] = False
            self.owner[out], self.is_record_damaged[out] = None, False

    @rule(out=OUTS)
    def record_of_the_folder_is_damaged(self, out: str) -> None:
        if (self.folder / out).exists() and sidecar_of(self.folder / out).exists():
            sidecar_of(self.folder / out).write_bytes(b'{"photos": ')
            self.is_record_damaged[out] = True

    @rule(folder=FOLDERS, out=OUTS, how=st.sampled_from(["", "", "", "fresh", "adopt"]))
    def run(self, folder: str, out: str, how: str) -> None:
        path, photos = self.folder / out, self.folder / folder
        before = path.read_bytes() if path.exists() else None
        present = self._present(folder)
        try:
            bring_up_to_date(photos, path, fresh=how == "fresh", adopt=how == "adopt")
        except LabelDirError as error:
            # A run that is refused changes nothing.
            assert (path.read_bytes() if path.exists() else None) == before
            self._check_refusal(error, folder, out, how)
            return
        assert not self.is_foreign[out], "the file of another program was replaced"
        is_doubtful = self.owner[out] not in (None, folder) or self.is_record_damaged[out]
        assert how or not is_doubtful, f"{out} holds the labels of {self.owner[out]}; a run of {folder} replaced them"
        self._take_over(out, folder)
        rows = read_rows(path).to_pylist()
        assert [row["file_name"] for row in rows] == sorted(present)
        if how == "fresh":
            assert {row["file_name"]: row["label_1"] for row in rows} == {
                name: (labels_of(content) or (None,))[0] for name, content in present.items()
            }

    @invariant()
    def rows_are_of_bytes_that_lay_under_their_name_size_and_time(self) -> None:
        for out, owner in self.owner.items():
            path = self.folder / out
            if self.is_foreign[out]:
                assert path.read_bytes() == FOREIGN[out]
            elif owner is not None:
                for row in read_rows(path).to_pylist():
                    version = (row["file_name"], row["size_bytes"], int(row["mtime"].timestamp()))
                    known = set().union(*(versions[version] for versions in self.versions.values()))
                    assert any(self._is_row_of(row, content) for content in known), f"{row} is of other bytes"

    @staticmethod
    def _is_row_of(row: dict[str, object], content: bytes) -> bool:
        if not content:
            return row["status"] == "error" and row["label_1"] is None
        digest = hashlib.sha256(content).hexdigest()
        return row["sha256"] == digest and (row["label_1"], row["label_2"]) == labels_of(content)

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    def _check_refusal(self, error: LabelDirError, folder: str, out: str, how: str) -> None:
        """A refusal has its reason: nothing else keeps a run from its work."""
        if isinstance(error, PhotosGoneError):
            assert how != "" or self.owner[out] == folder
            # Told that they are gone, the run goes on.
            bring_up_to_date(
                self.folder / folder, self.folder / out, gone_limit=GoneLimit(1.0), fresh=how == "fresh", adopt=True
            )
            self._take_over(out, folder)
            return
        is_another = self.owner[out] not in (None, folder)
        is_missing = not (self.folder / folder).exists()
        assert self.is_foreign[out] or is_another or is_missing or self.is_record_damaged[out], error
        assert not isinstance(error, UsageError) or not how or self.is_foreign[out], error

    def _take_over(self, out: str, folder: str) -> None:
        self.owner[out], self.is_record_damaged[out] = folder, False

    def _is_away(self, folder: str) -> bool:
        return (self.folder / f"away-{folder}").exists()

    def _present(self, folder: str) -> dict[str, bytes]:
        place = self.folder / folder
        return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}

    def _content(self, kind: str) -> bytes:
        if kind == "empty":
            return b""
        if kind == "again" and self.contents:
            return self.contents[len(self.contents) // 2]
        self.contents.append(f"{len(self.contents):04d}".encode())
        return self.contents[-1]

    def _remember(self) -> None:
        for folder, versions in self.versions.items():
            for name, content in self._present(folder).items():
                facts = os.stat(self.folder / folder / name)
                versions[(name, facts.st_size, facts.st_mtime_ns // 10**9)].add(content)


TestTwoTables = TwoTables.TestCase
TestTwoTables.settings = steps(150, 30)
