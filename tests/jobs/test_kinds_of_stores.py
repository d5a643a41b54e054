"""What holds for every kind of store: S3 by moto, Azure by Azurite, S3 out of order by s3rver, strict S3 by nanio."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess, run

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.conftest import Command, command_path, write_photos
from tests.support.object_store import FaultProxy, proxy_before
from tests.support.store_servers import azurite, moto, nanio, needs_npm_program, s3rver

_TIMES = ["mtime", "labelled_at"]


@pytest.fixture(scope="module", params=["s3", pytest.param("az", marks=needs_npm_program("azurite-blob"))])
def server(request: pytest.FixtureRequest) -> Iterator[FaultProxy]:
    """A server of each kind whose listings are in order."""
    with azurite() if request.param == "az" else moto() as started, proxy_before(started) as proxy:
        yield proxy


@pytest.fixture
def store(server: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> FaultProxy:
    """An empty bucket of each kind, which commands find by their environment."""
    server.clear()
    return found_by_commands(server, monkeypatch)


def found_by_commands(proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> FaultProxy:
    for name, value in proxy.environment.items():
        monkeypatch.setenv(name, value)
    return proxy


def rows_of(table: Path) -> pa.Table:
    """Return all that does not differ from run to run or from place to place."""
    rows = pq.read_table(table).drop_columns(_TIMES)
    return rows.drop_columns("etag") if "etag" in rows.column_names else rows


def merged(*arguments: str, cwd: Path) -> CompletedProcess[str]:
    return run([command_path("label-merge"), *arguments], cwd=cwd, capture_output=True, text=True, check=False)


def test_rows_are_those_of_the_same_photos_in_a_folder(store: FaultProxy, label_dir: Command, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    write_photos(photos, 40)
    write_photos(photos / "a b/é", 5, ".jpg")
    # Upper case, characters around the slash and beyond ASCII: each store has to list them in the order of names.
    for folder in ("a", "a-", "a.b", "B", "Ω", "a/b", "a0"):
        write_photos(photos / folder, 2)
    (photos / "cut.png").write_bytes((photos / "00001-white.png").read_bytes()[:60])
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "50%20#1+&=?;~'.png").write_bytes((photos / "00002-red.png").read_bytes())
    (photos / "notes.txt").write_text("no photo")
    (photos / ".hidden.png").write_bytes(b"no photo")
    store.put_folder(photos, "photos/")
    here, there = label_dir(photos, "here.parquet"), label_dir(store.url("photos/"), "there.parquet")
    assert (here.returncode, there.returncode) == (3, 3), there.stderr
    local, remote = pq.read_table(tmp_path / "here.parquet"), pq.read_table(tmp_path / "there.parquet")
    assert remote.schema.names == [*local.schema.names, "etag"]
    assert all(remote["etag"].to_pylist())
    assert all(remote["mtime"].to_pylist())
    assert rows_of(tmp_path / "there.parquet").equals(rows_of(tmp_path / "here.parquet"))
    assert local.num_rows == 62
    # One pass over the listing: the store's order is that of the rows.
    assert store.listings == 1


def test_a_second_run_requests_no_object_and_an_overwritten_one_is_exactly_its_row(
    store: FaultProxy, label_dir: Command, tmp_path: Path
) -> None:
    photos, url = tmp_path / "photos", store.url("photos/")
    write_photos(photos, 30)
    for name, colour in (("x.bmp", "red"), ("y.bmp", "blue")):
        Image.new("RGB", (40, 40), colour).save(photos / name)
    store.put_folder(photos, "photos/")
    assert label_dir(url, "out.parquet").returncode == 0
    assert set(store.gets.values()) == {1}
    assert sum(store.gets.values()) == 32
    before = (tmp_path / "out.parquet").read_bytes()
    old = {row["file_name"]: row for row in pq.read_table(tmp_path / "out.parquet").to_pylist()}
    store.gets.clear()
    again = label_dir(url, "out.parquet")
    assert again.returncode == 0
    assert "0 labelled, 32 unchanged" in again.stderr
    assert not store.gets
    assert (tmp_path / "out.parquet").read_bytes() == before
    obstore.put(store.store(), "photos/x.bmp", (photos / "y.bmp").read_bytes())
    assert label_dir(url, "out.parquet").returncode == 0
    assert dict(store.gets) == {"photos/x.bmp": 1}
    new = {row["file_name"]: row for row in pq.read_table(tmp_path / "out.parquet").to_pylist()}
    assert new["x.bmp"]["label_1"] == "blue"
    assert new["x.bmp"]["size_bytes"] == old["x.bmp"]["size_bytes"]
    assert [name for name in new if new[name] != old.get(name)] == ["x.bmp"]


def test_parts_at_the_store_merge_to_the_rows_of_a_single_run(
    store: FaultProxy, label_dir: Command, tmp_path: Path
) -> None:
    write_photos(tmp_path / "photos", 30)
    store.put_folder(tmp_path / "photos", "photos/")
    url, parts = store.url("photos/"), store.url("labels/")
    assert label_dir(url, "single.parquet").returncode == 0
    for shard in ("2/2", "1/2"):
        done = label_dir("--shard", shard, "--part-rows", "8", url, parts)
        assert done.returncode == 0, done.stderr
    store.gets.clear()
    assert "30 unchanged" in label_dir(url, parts).stderr
    assert not [key for key in store.gets if key.startswith("photos/")]
    # A part that is there is replaced by its next version.
    obstore.delete(store.store(), "photos/00003-green.png")
    changed = label_dir(url, parts)
    assert "29 unchanged" in changed.stderr
    assert "1 gone" in changed.stderr
    assert label_dir(url, "single.parquet").returncode == 0
    done = merged(parts, "merged.parquet", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert rows_of(tmp_path / "merged.parquet").equals(rows_of(tmp_path / "single.parquet"))
    ranges = json.loads(bytes(obstore.get(store.store(), "labels/ranges.json").bytes()))
    assert len(ranges["cuts"]) == 3


@needs_npm_program("s3rver")
def test_a_server_that_lists_keys_in_the_order_of_its_disk_gives_the_same_table(
    label_dir: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = tmp_path / "photos"
    write_photos(photos, 40)
    for folder in ("a", "a-", "a.b", "a/b", "B", "a0"):
        write_photos(photos / folder, 2)
    assert label_dir(photos, "here.parquet").returncode == 0
    with s3rver(tmp_path / "served") as server, proxy_before(server) as proxy:
        found_by_commands(proxy, monkeypatch)
        proxy.put_folder(photos, "photos/")
        keys = [entry["path"] for chunk in obstore.list(proxy.store()) for entry in chunk]
        assert keys != sorted(keys)
        done = label_dir(proxy.url("photos/"), "there.parquet")
        assert done.returncode == 0, done.stderr
        assert set(proxy.gets.values()) == {1}
        proxy.gets.clear()
        assert "52 unchanged" in label_dir(proxy.url("photos/"), "there.parquet").stderr
        assert not proxy.gets
    assert rows_of(tmp_path / "there.parquet").equals(rows_of(tmp_path / "here.parquet"))


def test_a_server_that_verifies_signatures_takes_right_credentials_and_refuses_wrong_ones_in_one_sentence(
    label_dir: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photos(tmp_path / "photos", 5)
    with nanio(tmp_path / "served") as server, proxy_before(server) as proxy:
        found_by_commands(proxy, monkeypatch)
        proxy.put_folder(tmp_path / "photos", "photos/")
        done = label_dir(proxy.url("photos/"), "out.parquet")
        assert done.returncode == 0, done.stderr
        before = (tmp_path / "out.parquet").read_bytes()
        for name, value in {"AWS_SECRET_ACCESS_KEY": "not-the-secret", "AWS_ACCESS_KEY_ID": "not-the-key"}.items():
            proxy.gets.clear()
            for out in ("out.parquet", "new.parquet", proxy.url("labels/")):
                done = label_dir(proxy.url("photos/"), out, env={name: value})
                assert done.returncode == 66, done.stderr
                assert "the store refuses the credentials" in done.stderr
                assert len(done.stderr.splitlines()) == 1
                assert value not in done.stderr
            assert not [key for key in proxy.gets if key.startswith("photos/")]
        assert not (tmp_path / "new.parquet").exists()
        assert (tmp_path / "out.parquet").read_bytes() == before
