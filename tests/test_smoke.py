from __future__ import annotations

from pathlib import Path

import pandas as pd

from tests.conftest import Command, write_photos


def test_every_photo_gets_its_own_label(label_dir: Command, tmp_path: Path) -> None:
    expected = write_photos(tmp_path / "photos", 50)
    done = label_dir("photos", "out.parquet")
    assert done.returncode == 0, done.stderr
    table = pd.read_parquet(tmp_path / "out.parquet")
    assert dict(zip(table["file_name"], table["label_1"], strict=True)) == expected
