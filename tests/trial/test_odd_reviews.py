"""The reviews beside a table may hold anything: they are used as they are, or refused in one sentence, untouched."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.reviews.decisions import Decision, ReviewKind
from pipeline.reviews.review_file import reading_reviews, reviews_path
from pipeline.reviews.review_store import ReviewStore
from pipeline.reviews.reviewed_labels import read_reviewed_rows, reviewed_label_column
from pipeline.tables.reader import read_rows
from tests.support.bytes_labeller import bring_up_to_date, put
from tests.support.watch_kit import digest
from tests.trial.damage import ODD_TEXTS, SCRATCH, damaged, examples, refused

PHOTOS = {"a.jpg": b"one", "b.jpg": b"two"}
_SCHEMA_CHANGES = [
    "PRAGMA user_version = 0",
    "PRAGMA user_version = 7",
    "PRAGMA user_version = -2147483648",
    "PRAGMA application_id = 0",
    "PRAGMA application_id = 5",
    "DROP TRIGGER review_is_not_changed",
    "DROP INDEX review_of_photo",
    "DROP TABLE review",
    "CREATE TABLE another (x)",
    "CREATE TRIGGER mine AFTER INSERT ON review BEGIN SELECT load_extension('x'); END",
    "ALTER TABLE review ADD COLUMN more TEXT",
    "ALTER TABLE review RENAME TO reviews",
]
_COLUMNS = ["request_id", "kind", "sha256", "old_label", "new_label", "undoes", "reviewer", "reviewed_at_us"]
_VALUES = st.one_of(
    ODD_TEXTS.map(lambda text: text.encode("utf-8", "replace").decode()),
    st.sampled_from([None, b"", b"\xff", -1, 0, 2**62, -(2**63), "confirm", "undo", "'; DROP TABLE review"]),
)


def _decisions() -> list[Decision]:
    return [Decision(digest(content), ReviewKind.CHANGE, "x", f"named {name}") for name, content in PHOTOS.items()]


@contextmanager
def reviewed_folder() -> Iterator[Path]:
    """Two photos, their table, and a review of each."""
    with tempfile.TemporaryDirectory(prefix="trial-", dir=SCRATCH) as name:
        folder = Path(name)
        for photo, content in PHOTOS.items():
            put(folder / "photos" / photo, content)
        out = folder / "out.parquet"
        bring_up_to_date(folder / "photos", out)
        with closing(ReviewStore(reviews_path(out), lambda: 5)) as store:
            store.record("request-1", "ann", _decisions())
        yield folder


def _change_cells(draw: st.DrawFn, reviews: Path) -> None:
    """Put a value into a column of every row, past all checks of the format."""
    column, value = draw(st.sampled_from(_COLUMNS)), draw(_VALUES)
    with closing(sqlite3.connect(reviews)) as database:
        database.execute("PRAGMA ignore_check_constraints = ON")
        (trigger,) = database.execute("SELECT sql FROM sqlite_schema WHERE name = 'review_is_not_changed'").fetchone()
        database.execute("DROP TRIGGER review_is_not_changed")
        try:
            database.execute(f"UPDATE OR REPLACE review SET {column} = ? WHERE id = 1", (value,))
        except sqlite3.Error:
            database.rollback()
            return
        database.execute(trigger)
        database.commit()


@st.composite
def changes(draw: st.DrawFn, reviews: Path) -> None:
    """Damage the reviews file: its bytes, its tables, its cells, or what lies beside."""
    kind = draw(st.integers(0, 3))
    if kind == 0:
        reviews.write_bytes(draw(damaged(reviews.read_bytes())))
    elif kind == 1:
        with closing(sqlite3.connect(reviews)) as database:
            database.execute(draw(st.sampled_from(_SCHEMA_CHANGES)))
            database.commit()
    elif kind == 2:
        _change_cells(draw, reviews)
    else:
        beside = draw(st.sampled_from(["-wal", "-shm", "-journal"]))
        reviews.with_name(reviews.name + beside).write_bytes(draw(st.binary(max_size=200)))


def _read(out: Path) -> None:
    reviews = reviews_path(out)
    with reading_reviews(reviews) as database:
        if database is not None:
            database.execute("SELECT * FROM review").fetchall()
    reviewed_label_column(reviews)
    read_reviewed_rows(out)


def _record(reviews: Path) -> None:
    with closing(ReviewStore(reviews, lambda: 6)) as store:
        store.all_states()
        states = store.states([digest(content) for content in PHOTOS.values()])
        seen = [
            Decision(state.sha256, ReviewKind.UNDO if state.kind else ReviewKind.UNKNOWN, last_id=state.last_id)
            for state in states
        ]
        store.record("request-2", "bob", seen)
        store.reviewed_after(0)
        store.last_id()


@examples(150)
@given(data=st.data())
def test_odd_reviews_are_used_or_refused_in_a_sentence_and_left_as_they_are(data: st.DataObject) -> None:
    with reviewed_folder() as folder:
        out = folder / "out.parquet"
        reviews = reviews_path(out)
        data.draw(changes(reviews))
        before = reviews.read_bytes()
        is_refused = refused(lambda: _read(out))
        put(folder / "photos" / "c.jpg", b"three")
        # A run stops before it labels where reviews cannot be read: their labels would be gone from the table.
        assert refused(lambda: bring_up_to_date(folder / "photos", out)) or not is_refused
        assert read_rows(out).num_rows in (2, 3)
        if is_refused:
            assert reviews.read_bytes() == before
        refused(lambda: _record(reviews))


@pytest.mark.parametrize("statement", _SCHEMA_CHANGES)
def test_reviews_of_another_form_are_refused(statement: str) -> None:
    with reviewed_folder() as folder:
        reviews = reviews_path(folder / "out.parquet")
        with closing(sqlite3.connect(reviews)) as database:
            database.execute(statement)
            database.commit()
        before = reviews.read_bytes()
        assert refused(lambda: _read(folder / "out.parquet"))
        assert refused(lambda: _record(reviews))
        assert reviews.read_bytes() == before
