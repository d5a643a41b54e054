"""What `label-merge` promises where parts or OUT are not as they should be: a sentence, and no file of others gone."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.scaling.merging.merge_tables import Merged, merge_tables
from jobs.scaling.range_plan import RangePlan
from pipeline.errors import InputMissingError, LabelDirError, LockedError, OutputError, UsageError
from pipeline.system.file_lock import held_state
from pipeline.tables.part_store import state_of
from pipeline.tables.schema import to_batch
from pipeline.tables.source import TableSource, recorded_source
from pipeline.tables.writer import export
from tests.conftest import Command, command_path, write_photos
from tests.jobs.scaling.test_merge import _ROW, MODEL, rows_of, written

Damage = Callable[[Path], object]
ESCAPE = "\x1b]0;owned\x07\n"


def parts_in(folder: Path, ranges: int = 3, plan_ranges: int | None = None) -> Path:
    """Write a place of parts with two rows each, and the plan of its ranges."""
    for number in range(ranges):
        written(folder / f"part-{number:05d}.parquet", [f"{number}a.jpg", f"{number}b.jpg"])
    cuts = tuple(f"{number}b.jpg" for number in range((plan_ranges or ranges) - 1))
    (folder / "ranges.json").write_bytes(RangePlan("/photos", cuts).to_json())
    return folder


def saved_again(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Save a table as another program would that keeps the metadata."""
    pq.write_table(change(pq.read_table(path)), path)


def written_with(path: Path, number: int = 1, top_k: int = 3, source: TableSource | None = None) -> Path:
    """Write a table of one row, with other labels or of other photos."""
    export([to_batch([replace(_ROW, file_name=f"{number}a.jpg")], top_k)], path, top_k, source)
    return path


def with_column(path: Path, name: str, values: list[Any]) -> Path:
    """Give a table a further column, as another program would."""
    saved_again(path, lambda table: table.append_column(name, pa.array(values)))
    return path


def merge(*arguments: object, cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [command_path("label-merge"), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, text=True, timeout=120, check=False, **options)


def with_flipped_byte(path: Path) -> None:
    """Damage the cells of a table, not its footer."""
    content = bytearray(path.read_bytes())
    content[len(content) // 8] ^= 0xFF
    path.write_bytes(content)


def with_broken_text(path: Path) -> None:
    table = pq.read_table(path)
    names = pa.array([b"\xff.jpg", b"\xff\xff.jpg"]).view(pa.string())
    pq.write_table(table.set_column(0, table.schema.field(0), names), path)


DAMAGES: dict[str, Damage] = {
    "flipped": with_flipped_byte,
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no table"),
    "broken text": with_broken_text,
    "folder": lambda path: path.rename(path.with_name("away")).with_name(path.name).mkdir(),
    "no names": lambda path: saved_again(
        path, lambda table: table.set_column(0, "file_name", pa.nulls(table.num_rows, pa.string()))
    ),
    "numbers for names": lambda path: saved_again(
        path, lambda table: table.set_column(6, "prob_2", pa.array(["x"] * table.num_rows))
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_part_is_named_and_out_stays(damage: str, tmp_path: Path) -> None:
    out = written(tmp_path / "out.parquet", ["old.jpg"])
    parts = parts_in(tmp_path / "parts")
    DAMAGES[damage](parts / "part-00001.parquet")
    with pytest.raises(InputMissingError, match=r"part-00001\.parquet (is damaged|cannot be read|is no file)"):
        merge_tables([parts], out)
    with pytest.raises(InputMissingError, match=r"part-00001\.parquet (is damaged|cannot be read|is no file)"):
        merge_tables([parts], tmp_path / "files", 2)
    assert rows_of(out) == [("old.jpg", MODEL)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "parts"]


FOREIGN: dict[str, tuple[Damage, str]] = {
    "a copy of a part": (
        lambda folder: (folder / "part-00001 (copy).parquet").write_bytes((folder / "part-00001.parquet").read_bytes()),
        r"part-00001 \(copy\)\.parquet is none of the 3 parts",
    ),
    "a part that was renamed": (
        lambda folder: (folder / "part-00002.parquet").replace(folder / "part-00001.parquet"),
        r"lacks 1 of 3 parts, the first of them part-00002\.parquet",
    ),
    "two parts exchanged": (
        lambda folder: [
            (folder / "part-00002.parquet").replace(folder / "other"),
            (folder / "part-00001.parquet").replace(folder / "part-00002.parquet"),
            (folder / "other").replace(folder / "part-00001.parquet"),
        ],
        r"part-00002\.parquet begins before the end of .*part-00001\.parquet",
    ),
    "a part that overlaps": (
        lambda folder: written(folder / "part-00001.parquet", ["0b.jpg", "1b.jpg"]),
        r"part-00001\.parquet begins before the end of .*part-00000\.parquet",
    ),
    "a part that is not sorted": (
        lambda folder: saved_again(folder / "part-00001.parquet", lambda table: table.take([1, 0])),
        r"part-00001\.parquet is not sorted",
    ),
    "a name twice in a part": (
        lambda folder: saved_again(folder / "part-00001.parquet", lambda table: table.take([0, 0, 1])),
        r"part-00001\.parquet is not sorted",
    ),
    "other labels": (
        lambda folder: written_with(folder / "part-00001.parquet", top_k=1),
        r"part-00001\.parquet has 1, others 3",
    ),
    "other photos": (
        lambda folder: [
            written_with(
                folder / f"part-0000{number}.parquet", number, source=TableSource(f"/{number}", f"../{number}")
            )
            for number in (0, 1)
        ],
        r"part-00001\.parquet is of /1, the parts before of /0",
    ),
    "no table of label-dir": (
        lambda folder: pq.write_table(pa.table({"file_name": ["1a.jpg"]}), folder / "part-00001.parquet"),
        r"part-00001\.parquet is not a table of label-dir",
    ),
    "a column of another type": (
        lambda folder: [
            with_column(folder / "part-00000.parquet", "x", [1, 2]),
            with_column(folder / "part-00001.parquet", "x", ["1", "2"]),
        ],
        r"differ in their column x",
    ),
    "columns that are missing": (
        lambda folder: saved_again(folder / "part-00001.parquet", lambda table: table.drop_columns("sha256")),
        r"part-00001\.parquet lacks the column sha256",
    ),
    "a damaged plan": (lambda folder: (folder / "ranges.json").write_text("{"), "is no plan of label-dir"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_parts_that_do_not_belong_together_are_refused_by_name(kind: str, tmp_path: Path) -> None:
    out = written(tmp_path / "out.parquet", ["old.jpg"])
    parts = parts_in(tmp_path / "parts")
    change, told = FOREIGN[kind]
    change(parts)
    with pytest.raises((UsageError, InputMissingError), match=told):
        merge_tables([parts], out)
    assert rows_of(out) == [("old.jpg", MODEL)]


def test_parts_that_are_not_written_yet_are_missed(tmp_path: Path) -> None:
    parts = parts_in(tmp_path / "parts", 3, plan_ranges=5)
    with pytest.raises(InputMissingError, match=r"lacks 2 of 5 parts, the first of them part-00003\.parquet"):
        merge_tables([parts], tmp_path / "out.parquet")
    # The parts that there are can be merged where somebody means it.
    one_by_one = [parts / f"part-{number:05d}.parquet" for number in range(3)]
    assert merge_tables(one_by_one, tmp_path / "out.parquet").rows == 6


def test_more_than_a_hundred_thousand_parts_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (99_999, 100_000):
        written(tmp_path / f"parts/part-{number:05d}.parquet", [f"{number:06d}.jpg"])
    merge_tables([tmp_path / "parts"], tmp_path / "out.parquet")
    assert [name for name, _ in rows_of(tmp_path / "out.parquet")] == ["099999.jpg", "100000.jpg"]


def test_files_that_are_no_parts_are_passed_over(tmp_path: Path) -> None:
    parts = parts_in(tmp_path / "parts")
    (parts / "._part-00001.parquet").write_bytes(b"\x00\x05\x16\x07")
    (parts / "notes.txt").write_text("mine")
    assert merge_tables([parts], tmp_path / "out.parquet").rows == 6


def test_two_places_with_parts_of_the_same_names_are_merged_by_their_rows(tmp_path: Path) -> None:
    one, two = parts_in(tmp_path / "one"), parts_in(tmp_path / "two")
    written(two / "part-00001.parquet", ["1a.jpg", "1c.jpg"], "newer@0123456789ab")
    merged = merge_tables([one, two], tmp_path / "out.parquet")
    assert merged == Merged(7, 1, ("newer@0123456789ab", MODEL))
    assert ("1a.jpg", "newer@0123456789ab") in rows_of(tmp_path / "out.parquet")


def test_a_column_of_any_name_stays_with_its_rows(tmp_path: Path) -> None:
    tables = [
        written(tmp_path / f"{number}.parquet", [f"{number}.jpg", f"{number + 2}.jpg", "z.jpg"]) for number in (0, 1)
    ]
    for number, table in enumerate(tables):
        with_column(table, "generation", [number] * 3)
    merge_tables(tables, tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["generation"].to_pylist() == [0, 1, 0, 1, 1]


def test_names_of_any_kind_reach_no_terminal_and_no_formula(tmp_path: Path) -> None:
    names = sorted(["=1+1.jpg", f"a{ESCAPE}.jpg", "ü\\xff.jpg", 'zz,".jpg'])
    folder = tmp_path / f"parts{ESCAPE}"
    written(folder / f"part{ESCAPE}.parquet", names, f"model{ESCAPE}@0123456789ab")
    written(folder / f"part{ESCAPE}s.parquet", [])
    written(tmp_path / "other.parquet", ["b.jpg"])
    done = merge(folder, "other.parquet", "out.csv", cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert "2 models" in done.stderr
    DAMAGES["cut short"](folder / f"part{ESCAPE}.parquet")
    damaged = merge(folder, "out.csv", cwd=tmp_path, capture_output=True)
    assert damaged.returncode == 66
    assert "\x1b" not in done.stderr + damaged.stderr
    assert (tmp_path / "out.csv").read_text().splitlines()[1].startswith('"./=1+1.jpg"')


def test_a_forgotten_out_does_not_cost_the_last_part(tmp_path: Path) -> None:
    parts = sorted(parts_in(tmp_path / "parts").glob("*.parquet"))
    before = [part.read_bytes() for part in parts]
    for out in (parts[-1], parts[0]):
        with pytest.raises(UsageError, match="among the parts"):
            merge_tables(parts[:-1], out, fresh=True)
    assert [part.read_bytes() for part in parts] == before


def test_out_never_becomes_one_of_the_parts(tmp_path: Path) -> None:
    parts = parts_in(tmp_path / "parts")
    (tmp_path / "link").symlink_to(parts)
    for place, out, files in [
        (parts, parts / "all.parquet", None),
        (tmp_path / "link", parts / "all.csv", None),
        (parts, tmp_path / "link/all.parquet", None),
        (parts, parts, 2),
        (parts, parts / "files", 2),
    ]:
        with pytest.raises(UsageError, match="among the parts"):
            merge_tables([place], out, files)
    assert len(list(parts.iterdir())) == 4


def test_a_url_is_no_out(tmp_path: Path) -> None:
    parts_in(tmp_path / "parts")
    for arguments in (["s3://bucket/all.parquet"], ["s3://bucket/all/", "--files", "2"]):
        done = merge("parts", *arguments, cwd=tmp_path, capture_output=True)
        assert done.returncode == 2
        assert "writes to this machine" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["parts"]


def test_a_table_of_other_photos_is_replaced_only_with_fresh(tmp_path: Path) -> None:
    for name in ("a", "b"):
        source = TableSource(f"/photos/{name}", f"../photos/{name}")
        export([to_batch([replace(_ROW, file_name=f"{name}.jpg")], 3)], tmp_path / f"{name}.parquet", 3, source)
    # OUT was forgotten: the second table would be lost.
    done = merge("a.parquet", "b.parquet", cwd=tmp_path, capture_output=True)
    assert done.returncode == 2
    assert "holds the labels of /photos/b" in done.stderr
    assert rows_of(tmp_path / "b.parquet") == [("b.jpg", MODEL)]
    assert merge("--fresh", "a.parquet", "b.parquet", cwd=tmp_path, capture_output=True).returncode == 0
    assert rows_of(tmp_path / "b.parquet") == [("a.jpg", MODEL)]


def test_a_table_is_not_replaced_by_a_few_of_its_rows(tmp_path: Path) -> None:
    written(tmp_path / "few.parquet", ["0.jpg", "1.jpg"])
    out = written(tmp_path / "many.parquet", [f"{number:02d}.jpg" for number in range(30)])
    done = merge("few.parquet", "many.parquet", cwd=tmp_path, capture_output=True)
    assert done.returncode == 69
    assert len(rows_of(out)) == 30
    # Merged into itself nothing is lost.
    assert merge("few.parquet", "many.parquet", "many.parquet", cwd=tmp_path, capture_output=True).returncode == 0
    assert len(rows_of(out)) == 32


def test_a_file_that_is_not_ours_is_not_replaced(tmp_path: Path) -> None:
    parts_in(tmp_path / "parts")
    (tmp_path / "mine.csv").write_text("name,price\nsoap,3\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    (tmp_path / ".new.label-dir").mkdir()
    (tmp_path / ".new.label-dir/mine.txt").write_text("mine")
    for arguments in (["mine.csv"], ["full", "--files", "2"], ["new", "--files", "2"]):
        assert merge("parts", *arguments, cwd=tmp_path, capture_output=True).returncode == 2
    assert (tmp_path / "mine.csv").read_text() == "name,price\nsoap,3\n"
    assert os.listdir(tmp_path / "full") == ["mine.txt"]
    assert os.listdir(tmp_path / ".new.label-dir") == ["mine.txt"]


def test_a_table_that_another_process_writes_is_left_to_it(tmp_path: Path) -> None:
    parts, out = parts_in(tmp_path / "parts"), tmp_path / "out.parquet"
    with held_state(state_of(out), "out.parquet"), pytest.raises(LockedError):
        merge_tables([parts], out)
    assert not out.exists()


def test_the_merged_table_is_continued_by_the_next_run(label_dir: Command, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 6)
    assert label_dir("--part-rows", "2", "photos", "deep/parts/").returncode in (0, 74)
    (tmp_path / "deep").mkdir(exist_ok=True)
    assert label_dir("--part-rows", "2", "photos", "deep/parts/").returncode == 0
    assert merge("deep/parts", "out.parquet", cwd=tmp_path, capture_output=True).returncode == 0
    # The way to the photos is that from the merged table, not that from its parts.
    assert recorded_source(tmp_path / "out.parquet") == TableSource(str(tmp_path / "photos"), "photos")
    assert "6 unchanged" in label_dir("photos", "out.parquet").stderr


@pytest.mark.parametrize("files", [None, 2])
def test_a_full_disk_leaves_the_old_table_and_no_rest(files: int | None, tmp_path: Path) -> None:
    names = [f"{number:05d}.jpg" for number in range(5_000)]
    table = written(tmp_path / "a.parquet", names)
    out = tmp_path / "files" if files else written(tmp_path / "out.parquet", ["old.jpg"])
    before = sorted(tmp_path.iterdir())

    def limit() -> None:
        # A write beyond this fails as one on a full disk; without the handler it would kill.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (table.stat().st_size // 4,) * 2)

    arguments = ["--files", str(files)] if files else []
    done = merge(table, out, *arguments, cwd=tmp_path, capture_output=True, preexec_fn=limit)
    assert done.returncode == 74, done.stderr
    assert os.strerror(errno.EFBIG) in done.stderr
    assert sorted(tmp_path.iterdir()) == before
    assert files or rows_of(out) == [("old.jpg", MODEL)]


@pytest.mark.parametrize("files", [None, 2])
def test_a_killed_merge_leaves_no_half_result_and_the_next_one_cleans_up(files: int | None, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "slow.parquet")
    parts = parts_in(tmp_path / "parts")
    out = tmp_path / "files" if files else written(tmp_path / "out.parquet", ["old.jpg"])
    program = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from jobs.scaling.merging import merge_tables\n"
        "whole = merge_tables.export\n"
        "def killed(batches, out, *rest):\n"
        "    def cut():\n"
        "        yield from batches\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    whole(cut(), out, *rest)\n"
        "merge_tables.export = killed\n"
        "files = int(sys.argv[3]) if sys.argv[3:] else None\n"
        "merge_tables.merge_tables([Path(sys.argv[1])], Path(sys.argv[2]), files)\n"
    )
    interpreter = str(Path(command_path("label-merge")).with_name("python"))
    arguments = [str(parts), str(out), *([str(files)] if files else [])]
    done = subprocess.run([interpreter, "-c", program, *arguments], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not out.exists() if files else rows_of(out) == [("old.jpg", MODEL)]
    assert merge_tables([parts], out, files).rows == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([out.name, "parts", "slow.parquet"])


def test_a_pipe_that_nobody_writes_to_does_not_hold_the_merge(tmp_path: Path) -> None:
    parts = parts_in(tmp_path / "parts")
    (parts / "part-00001.parquet").unlink()
    os.mkfifo(parts / "part-00001.parquet")
    done = merge("parts", "out.parquet", cwd=tmp_path, capture_output=True)
    assert done.returncode == 66
    assert "part-00001.parquet is no file" in done.stderr


def test_closed_streams_do_not_matter(tmp_path: Path) -> None:
    parts_in(tmp_path / "parts")
    for redirection in (">&-", "2>&-", ">&- 2>&- <&-", "2>/dev/full"):
        command = f"exec {command_path('label-merge')} parts out.parquet {redirection}"
        done = subprocess.run(["sh", "-c", command], cwd=tmp_path, stdin=subprocess.DEVNULL, timeout=120, check=False)
        assert done.returncode == 0, redirection
        assert len(rows_of(tmp_path / "out.parquet")) == 6
        (tmp_path / "out.parquet").unlink()
    reader, writer = os.pipe()
    os.close(reader)
    merge("parts", "out.parquet", cwd=tmp_path, stderr=writer)
    os.close(writer)
    assert len(rows_of(tmp_path / "out.parquet")) == 6


def test_interrupted_the_merge_says_so_and_out_stays(tmp_path: Path) -> None:
    out = written(tmp_path / "out.parquet", ["old.jpg"])
    tables = [tmp_path / f"{number}.parquet" for number in range(4)]
    for number, table in enumerate(tables):
        written(table, [f"{name:06d}.jpg" for name in range(number, 60_000, 4)])
    command = [command_path("label-merge"), *map(str, tables), str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not list(tmp_path.glob(".out.parquet.*.tmp")) and process.poll() is None:
            threading.Event().wait(0.001)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (0, 130)
    assert len(rows_of(out)) in (1, 60_000)
    assert not list(tmp_path.glob(".out.parquet.*.tmp"))


def test_every_refusal_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LabelDirError, match="does not exist"):
        merge_tables([tmp_path / "missing"], tmp_path / "out.parquet")
    written(tmp_path / "a.parquet", ["a.jpg"])
    with pytest.raises(OutputError):
        merge_tables([tmp_path / "a.parquet"], tmp_path / "missing/out.parquet")
