"""What a run promises where a store fails midway, or where others have put objects whose keys are to mislead."""

from __future__ import annotations

import http.client
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest

from tests.conftest import Command, write_photos
from tests.support.object_store import Fault, FaultProxy
from tests.support.store_servers import BUCKET

URL = f"s3://{BUCKET}/photos/"


def put_raw(store: FaultProxy, key: str, content: bytes = b"") -> None:
    """Put an object under a key that the client library would change."""
    connection = http.client.HTTPConnection("127.0.0.1", store.server.port)
    connection.request("PUT", f"/{BUCKET}/{quote(key)}", content)
    assert connection.getresponse().status == 200
    connection.close()


def put_photos(store: FaultProxy, folder: Path, count: int) -> list[str]:
    """Return the names of `count` photos at the store."""
    write_photos(folder, count)
    store.put_folder(folder, "photos/")
    return sorted(path.name for path in folder.iterdir())


def rows_of(table: Path) -> dict[str, dict[str, object]]:
    return {row["file_name"]: row for row in pq.read_table(table).to_pylist()}


def test_a_token_that_expires_midway_costs_no_row_and_the_next_run_requests_the_rest(
    store: FaultProxy, label_dir: Command, tmp_path: Path
) -> None:
    names = put_photos(store, tmp_path / "photos", 60)
    store.gets_of_token = 35
    done = label_dir(URL, "out.parquet")
    assert done.returncode == 3, done.stderr
    rows = rows_of(tmp_path / "out.parquet")
    assert sorted(rows) == names
    refused = [name for name in names if rows[name]["error"] is not None]
    assert len(refused) == 25
    assert {rows[name]["error"] for name in refused} == {"permission: the store refuses the credentials (ExpiredToken)"}
    store.gets_of_token = float("inf")
    store.gets.clear()
    assert label_dir(URL, "out.parquet").returncode == 0
    assert sorted(key.removeprefix("photos/") for key in store.gets) == refused


def test_a_listing_that_fails_midway_ends_the_run_and_costs_no_row_of_the_table(
    store: FaultProxy, label_dir: Command, tmp_path: Path
) -> None:
    names = put_photos(store, tmp_path / "photos", 30)
    store.keys_per_page = 10
    store.listing_faults = {2: Fault(503, "SlowDown"), 3: Fault(503, "SlowDown")}
    done = label_dir(URL, "out.parquet")
    assert done.returncode == 0, done.stderr
    assert sorted(rows_of(tmp_path / "out.parquet")) == names
    assert store.listings == 5
    before = (tmp_path / "out.parquet").read_bytes()
    for code in ("ExpiredToken", "AccessDenied"):
        store.listings = 0
        store.listing_faults = {3: Fault(403, code)}
        for out in ("out.parquet", "new.parquet"):
            done = label_dir(URL, out)
            assert done.returncode == 66, done.stderr
            assert "cannot be listed" in done.stderr
            assert code in done.stderr
            assert len(done.stderr.splitlines()) == 1
            store.listings = 0
    assert (tmp_path / "out.parquet").read_bytes() == before
    assert not (tmp_path / "new.parquet").exists()


def test_keys_that_look_alike_are_rows_of_their_own(store: FaultProxy, label_dir: Command, tmp_path: Path) -> None:
    write_photos(tmp_path / "photos", 40)
    photos = [path.read_bytes() for path in sorted((tmp_path / "photos").iterdir())]
    labels = [path.name.split("-")[1].removesuffix(".png") for path in sorted((tmp_path / "photos").iterdir())]
    keys = [
        *(
            "\u00e9.png",
            "e\u0301.png",
            "A.png",
            "a.png",
            "a.png .png",
            "a%2Fb.png",
            "a/b.png",
            "a%252Fb.png",
            "a+b.png",
        ),
        *("a\\b.png", "\\x41.png", "\\xe9.png", "a:b.png", "=1+1.png", "-rf.png", "\u202egnp.x.png", "\u200b.png"),
        *("~.png", "*.png", "?.png", "#.png", "&amp;.png", "<b>.png", '".png', "'.png", "x" * 1000 + ".png"),
        *("deep/" * 150 + "x.png", "a b.png", "folder.png/x.png", "\ufeff.png", "%00.png"),
    ]
    assert len(set(keys)) == len(keys) == 31
    for key, content in zip(keys, photos, strict=False):
        put_raw(store, f"photos/{key}", content)
    # What stands for a folder in a console is no photo, also where its name ends as one.
    for folder in ("photos/folder.png/", "photos/"):
        put_raw(store, folder)
    done = label_dir(URL, "out.parquet")
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "out.parquet")
    assert len(rows) == len(keys)
    assert [rows[name]["label_1"] for name in ("\u00e9.png", "e\u0301.png")] == labels[:2]
    assert len({row["sha256"] for row in rows.values()}) == len(keys)
    store.gets.clear()
    assert "31 unchanged" in label_dir(URL, "out.parquet").stderr
    assert not store.gets
    # A CSV cell is no formula, and the table is read back.
    assert label_dir(URL, "out.csv").returncode == 0
    store.gets.clear()
    assert "31 unchanged" in label_dir(URL, "out.csv").stderr
    assert not store.gets


@pytest.mark.parametrize("key", ["a//b.png", "/b.png", "../b.png", "a/../../b.png", "./b.png", "a\nb.png", "\x7f.png"])
def test_a_key_that_cannot_be_requested_is_one_sentence_and_costs_no_table(
    store: FaultProxy, label_dir: Command, tmp_path: Path, key: str
) -> None:
    names = put_photos(store, tmp_path / "photos", 3)
    assert label_dir(URL, "out.parquet").returncode == 0
    before = (tmp_path / "out.parquet").read_bytes()
    store.listed_as = {f"photos/{names[1]}": f"photos/{key}"}
    done = label_dir(URL, "out.parquet")
    assert done.returncode == 66, done.stderr
    shown = {"a\nb.png": "a\\nb.png", "\x7f.png": "\\x7f.png"}.get(key, key)
    assert f"the key photos/{shown} has a part that cannot be requested" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert (tmp_path / "out.parquet").read_bytes() == before
