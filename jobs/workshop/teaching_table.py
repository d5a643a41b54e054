"""A table of labels, as people write it: which photo is of which class."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from models.errors import InputMissingError

COLUMNS = ("file_name", "label")
# What spreadsheets put between columns, in one country or another.
SEPARATORS = ",;\t"


def table_labels(table: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Row name -> label of a CSV file with the columns file_name and label, and row name -> why it has no label.

    Raises InputMissingError.
    """
    labels: dict[str, str] = {}
    refused: dict[str, str] = {}
    try:
        text = table.read_bytes().decode("utf-8-sig")
        for row in csv.DictReader(io.StringIO(text, newline=""), delimiter=_separator(table, text)):
            name, label = ((row[column] or "").strip() for column in COLUMNS)
            name = name.removeprefix("./")
            if name and label and labels.setdefault(name, label) != label:
                refused[name] = "has two labels in the table of labels"
    except OSError as error:
        raise InputMissingError(f"cannot read the labels {table}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputMissingError(f"the labels {table} are no CSV file in UTF-8") from error
    return {name: label for name, label in labels.items() if name not in refused}, refused


def _separator(table: Path, text: str) -> str:
    """What lies between the columns, by the first line. Raises InputMissingError where that does not name both."""
    first = text.partition("\n")[0].rstrip("\r")
    for separator in SEPARATORS:
        if set(COLUMNS) <= set(next(csv.reader([first], delimiter=separator), [])):
            return separator
    raise InputMissingError(f"{table} has no columns file_name and label")
