"""What a person said of a photo is kept: added to the history, never replaced unseen; other files are refused."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import ExitCode, InputMissingError, LabelDirError, OutputError, UsageError
from pipeline.reviews.decisions import Decision, ReviewKind
from pipeline.reviews.review_file import open_reviews, reading_reviews, reviews_path
from pipeline.reviews.review_store import ReviewStore
from pipeline.reviews.reviewed_labels import confirmed_labels

CAT, DOG, COW = (hashlib.sha256(name.encode()).hexdigest() for name in ("cat", "dog", "cow"))
NOW_US = 1_700_000_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "labels.reviews.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[ReviewStore]:
    opened = ReviewStore(path, lambda: NOW_US)
    yield opened
    opened.close()


def confirm(sha256: str, label: str, last_id: int = 0) -> Decision:
    return Decision(sha256, ReviewKind.CONFIRM, label, None, last_id)


def change(sha256: str, old: str | None, new: str, last_id: int = 0) -> Decision:
    return Decision(sha256, ReviewKind.CHANGE, old, new, last_id)


def undo(sha256: str, last_id: int) -> Decision:
    return Decision(sha256, ReviewKind.UNDO, None, None, last_id)


def test_each_kind_of_review_gives_its_state_and_undoing_gives_the_state_before(store: ReviewStore) -> None:
    def said(number: int, decision: Decision) -> tuple[ReviewKind | None, str | None]:
        (state,) = store.record(f"request-{number}", "ann", [decision]).states
        assert state.last_id == number
        return state.kind, state.label

    assert said(1, confirm(CAT, "tabby")) == (ReviewKind.CONFIRM, "tabby")
    assert said(2, change(CAT, "tabby", "tiger", 1)) == (ReviewKind.CHANGE, "tiger")
    assert said(3, Decision(CAT, ReviewKind.UNKNOWN, "tabby", None, 2)) == (ReviewKind.UNKNOWN, None)
    assert said(4, undo(CAT, 3)) == (ReviewKind.CHANGE, "tiger")
    assert said(5, undo(CAT, 4)) == (ReviewKind.CONFIRM, "tabby")
    assert said(6, undo(CAT, 5)) == (None, None)
    assert store.record("request-7", "ann", [undo(CAT, 6)]).conflicts != ()
    assert said(7, change(CAT, None, "lynx", 6)) == (ReviewKind.CHANGE, "lynx")
    assert store.all_states() == list(store.states([CAT]))


def test_a_review_says_who_and_when_and_what_the_label_was(store: ReviewStore) -> None:
    store.record("request-1", "Ann Other", [change(CAT, "tabby", "tiger")])
    (state,) = store.states([CAT])
    assert (state.reviewer, state.reviewed_at_us, state.old_label, state.label) == (
        "Ann Other",
        NOW_US,
        "tabby",
        "tiger",
    )


def test_a_review_of_a_state_that_nobody_saw_is_not_recorded_and_the_newer_state_is_returned(
    store: ReviewStore, path: Path
) -> None:
    other = ReviewStore(path, lambda: NOW_US)
    store.record("request-1", "ann", [confirm(CAT, "tabby")])
    refused = other.record("request-2", "bob", [change(CAT, "tabby", "tiger"), confirm(DOG, "poodle")])
    assert [(state.sha256, state.label, state.reviewer) for state in refused.conflicts] == [(CAT, "tabby", "ann")]
    assert other.states([DOG])[0].kind is None, "a request is recorded as a whole or not at all"
    other.close()


def test_a_request_that_is_sent_again_is_recorded_once(store: ReviewStore) -> None:
    decisions = [confirm(CAT, "tabby"), change(DOG, "poodle", "wolf")]
    first = store.record("request-1", "ann", decisions)
    assert store.record("request-1", "ann", decisions) == first
    assert store.last_id() == 2
    with pytest.raises(UsageError, match="another"):
        store.record("request-1", "ann", [confirm(CAT, "tiger")])


def test_the_history_cannot_be_changed(store: ReviewStore, path: Path) -> None:
    store.record("request-1", "ann", [confirm(CAT, "tabby")])
    database = sqlite3.connect(path)
    for statement in ("DELETE FROM review", "UPDATE review SET new_label = 'x'"):
        with pytest.raises(sqlite3.IntegrityError, match="never"):
            database.execute(statement)
    database.close()


def test_of_many_writers_at_once_one_is_recorded(path: Path) -> None:
    recorded: list[str] = []

    def review(name: str) -> None:
        store = ReviewStore(path, lambda: NOW_US)
        if not store.record(f"request-{name}", name, [confirm(CAT, name)]).conflicts:
            recorded.append(name)
        store.close()

    threads = [threading.Thread(target=review, args=(f"reader{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(recorded) == 1
    assert list(confirmed_labels(path)) == [(CAT, recorded[0])]


def test_only_confirmed_and_changed_labels_are_taught(store: ReviewStore, path: Path) -> None:
    store.record("request-1", "ann", [confirm(CAT, "tabby"), change(DOG, "poodle", "wolf")])
    store.record("request-2", "ann", [Decision(COW, ReviewKind.UNKNOWN, "cow")])
    assert sorted(confirmed_labels(path)) == sorted([(CAT, "tabby"), (DOG, "wolf")])
    store.record("request-3", "ann", [undo(CAT, 1)])
    assert list(confirmed_labels(path)) == [(DOG, "wolf")]


@pytest.mark.parametrize(
    "decision",
    [
        change(CAT, "tabby", ""),
        change(CAT, "tabby", " x"),
        change(CAT, "tabby", "a\nb"),
        change(CAT, "tabby", "\ud800"),
        change(CAT, "tabby", "x" * 201),
        confirm("../../etc/passwd", "x"),
        Decision(CAT, ReviewKind.CONFIRM, None),
        Decision(CAT, ReviewKind.CHANGE, "tabby"),
    ],
)
def test_an_impossible_review_is_refused(store: ReviewStore, decision: Decision) -> None:
    with pytest.raises(UsageError):
        store.record("request-1", "ann", [decision])
    assert store.last_id() == 0


def test_reviews_lie_beside_the_table_under_its_name(tmp_path: Path) -> None:
    (tmp_path / "v3").mkdir()
    (tmp_path / "now.parquet").symlink_to("v3/labels.parquet")
    assert reviews_path(tmp_path / "now.parquet") == tmp_path / "v3" / "labels.reviews.sqlite"
    assert reviews_path(tmp_path / "labels.csv").name == "labels.reviews.sqlite"
    assert reviews_path(tmp_path / "labels.v2").name == "labels.v2.reviews.sqlite"


def test_closing_the_file_leaves_no_log_and_reading_it_neither(path: Path) -> None:
    store = ReviewStore(path, lambda: NOW_US)
    store.record("request-1", "ann", [confirm(CAT, "tabby")])
    store.close()
    assert list(confirmed_labels(path)) == [(CAT, "tabby")]
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def _write_foreign(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE song (title TEXT)")
    database.close()


def _write_newer(path: Path) -> None:
    open_reviews(path).close()
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 2")
    database.close()


def _write_text(path: Path) -> None:
    path.write_text("these are no reviews, but a text that is longer than the header of a database file " * 20)


def _write_damaged(path: Path) -> None:
    store = ReviewStore(path, lambda: NOW_US)
    for number in range(300):
        sha256 = hashlib.sha256(bytes([number % 256, number // 256])).hexdigest()
        store.record(f"request-{number}", "ann", [confirm(sha256, "tabby")])
    store.close()
    content = bytearray(path.read_bytes())
    # All pages but the first, which holds the format.
    content[4096:] = os.urandom(len(content) - 4096)
    path.write_bytes(content)


def _write_another_schema(path: Path) -> None:
    open_reviews(path).close()
    database = sqlite3.connect(path)
    database.execute("DROP TRIGGER review_is_not_removed")
    database.close()


def _write_link(path: Path) -> None:
    other = path.with_name("other.sqlite")
    open_reviews(other).close()
    path.symlink_to(other)


def _write_linked_log(path: Path) -> None:
    open_reviews(path).close()
    path.with_name(path.name + "-wal").symlink_to("/etc/passwd")


@pytest.mark.parametrize(
    ("write", "error", "reason"),
    [
        (_write_foreign, UsageError, "is no reviews file of label-dir"),
        (_write_newer, UsageError, "newer version"),
        (_write_text, InputMissingError, "is damaged"),
        (_write_damaged, InputMissingError, "is damaged"),
        (_write_another_schema, InputMissingError, "is damaged"),
        (_write_link, UsageError, "is a link"),
        (_write_linked_log, UsageError, "is a link"),
        (Path.mkdir, UsageError, "no regular file"),
        (os.mkfifo, UsageError, "no regular file"),
    ],
)
def test_a_file_that_is_no_sound_reviews_file_is_refused_with_its_path_and_the_reason(
    path: Path, write: object, error: type[LabelDirError], reason: str
) -> None:
    assert callable(write)
    write(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(error, match=reason) as writing:
        ReviewStore(path, lambda: NOW_US)
    with pytest.raises(error, match=reason) as reading, reading_reviews(path):
        pass
    assert str(path.parent) in str(writing.value)
    assert str(path.parent) in str(reading.value)
    assert writing.value.exit_code in (ExitCode.USAGE, ExitCode.INPUT_MISSING)
    assert (path.read_bytes() if path.is_file() else b"") == before


def test_the_empty_file_of_a_process_that_was_killed_at_its_first_step_is_used(path: Path) -> None:
    path.touch()
    with reading_reviews(path) as database:
        assert database is None
    store = ReviewStore(path, lambda: NOW_US)
    assert store.record("request-1", "ann", [confirm(CAT, "tabby")]).conflicts == ()
    store.close()


def test_a_file_that_was_moved_away_takes_no_more_reviews(store: ReviewStore, path: Path) -> None:
    path.rename(path.with_name("elsewhere.sqlite"))
    with pytest.raises(OutputError, match="moved or replaced"):
        store.record("request-1", "ann", [confirm(CAT, "tabby")])


def test_a_folder_with_any_name_is_no_obstacle(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/a?b#c%41 \xff"))
    folder.mkdir()
    store = ReviewStore(folder / "x.reviews.sqlite", lambda: NOW_US)
    store.record("request-1", "ann", [confirm(CAT, "tabby")])
    store.close()
    assert [found.name for found in folder.iterdir()] == ["x.reviews.sqlite"]
