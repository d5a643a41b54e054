"""The table that two checkouts make of the same folder, compared byte for byte; `two_checkouts.py` is the command."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import pyarrow.parquet as pq
from checkout import Checkout, label

_LABELLED_AT_AT_THE_END = re.compile(rb',"?\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[.\d]*Z?"?(?=\r?\n)')
_ENTRY = "metadata entry "


def differences(old: Checkout, new: Checkout, model: str, photos: Iterable[Path], home: Path) -> Iterator[str]:
    """Label a folder with both, fresh and once more after changes, in both formats; yield the parts that differ."""
    folder = home / "compared"
    make_odd_files(folder)
    for path in photos:
        shutil.copy(path, folder / path.name)
    for suffix in (".parquet", ".csv"):
        yield from _label_and_compare(old, new, model, folder, home / f"fresh{suffix}", None)
    change_files(folder)
    for suffix in (".parquet", ".csv"):
        base = home / f"fresh{suffix}.old{suffix}"
        yield from _label_and_compare(old, new, model, folder, home / f"up to date{suffix}", base)


def _label_and_compare(
    old: Checkout, new: Checkout, model: str, folder: Path, out: Path, base: Path | None
) -> Iterator[str]:
    """Yield how two tables differ that both bring up to date from the table `base`, or make without one."""
    exit_codes, parts = [], []
    for checkout in (old, new):
        own_out = out.with_name(f"{out.name}.{checkout.name}{out.suffix}")
        if base is not None:
            shutil.copy(base, own_out)
        exit_code, told = label(checkout, "-m", model, folder, own_out)
        click.echo(f"{own_out.name}: exit code {exit_code}, {told}")
        exit_codes.append(exit_code)
        parts.append(compared_bytes(own_out))
    if exit_codes[0] != exit_codes[1]:
        yield f"{out.name}: exit codes {exit_codes[0]} and {exit_codes[1]}"
    for part in sorted({*parts[0], *parts[1]}):
        if part.startswith(_ENTRY) and part not in parts[0]:
            click.echo(f"{out.name}: only the new table has {part}")
        elif parts[0].get(part) != parts[1].get(part):
            yield f"{out.name}: {part}"


def make_odd_files(folder: Path) -> None:
    """Write the damaged photos of the tests, and names and files that are no honest photos."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.pipeline.decoding.test_hostile_photos import PHOTOS

    folder.mkdir()
    for name, (content, _) in PHOTOS.items():
        (folder / name).write_bytes(content())
    (folder / "folder.jpg").mkdir()
    good = folder / "jpeg.jpg"
    for raw in (
        b"caf\xe9.jpg",
        b"=1+1.jpg",
        b"new\nline.jpg",
        b'quo"te, comma.jpg',
        b"x\\x5c.jpg",
        b"folder.jpg/in.jpg",
    ):
        shutil.copy(good, folder / os.fsdecode(raw))
    (folder / "empty.jpg").touch()
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    (folder / "link.jpg").symlink_to("jpeg.jpg")
    os.mkfifo(folder / "fifo.jpg")
    with (folder / "sparse.jpg").open("wb") as sparse:
        sparse.truncate(1 << 40)


def change_files(folder: Path) -> None:
    """Move, copy, change and remove some photos, as happens between two runs."""
    photos = sorted(path for path in folder.iterdir() if path.is_file() and not path.is_symlink())
    (folder / "moved").mkdir()
    for number, path in enumerate(photos):
        if number % 9 == 1:
            path.rename(folder / "moved" / path.name)
        elif number % 9 == 3:
            shutil.copy(path, folder / "moved" / f"copy of {path.name}"[-200:])
        elif number % 9 == 5 and path.stat().st_size < 1 << 30:
            path.write_bytes(path.read_bytes()[:-20])
        elif number % 9 == 7:
            path.unlink()


def compared_bytes(table: Path) -> dict[str, bytes]:
    """Return all bytes of a table that must be equal: of Parquet each column's chunks, of CSV the whole file."""
    content = table.read_bytes()
    if table.suffix == ".csv":
        return {"file": _LABELLED_AT_AT_THE_END.sub(b",", content)}
    metadata = pq.read_metadata(table)
    found = {"schema": str(metadata.schema.to_arrow_schema().remove_metadata()).encode()}
    # ARROW:schema holds the schema and all other entries once more.
    entries = {key: value for key, value in (metadata.metadata or {}).items() if key != b"ARROW:schema"}
    found |= {f"{_ENTRY}{key.decode()}": value for key, value in entries.items()}
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(index)
            begin = chunk.dictionary_page_offset or chunk.data_page_offset
            if chunk.path_in_schema != "labelled_at":
                found[f"{group} {chunk.path_in_schema}"] = content[begin : begin + chunk.total_compressed_size]
    return found
