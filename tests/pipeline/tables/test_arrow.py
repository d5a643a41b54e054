"""A process that takes pyarrow from `pipeline.tables.arrow` does not import pandas, and still can."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import sys
from pipeline.tables.arrow import pa, pc
rows = pa.table({"a": ["x", "y"]})
rows.filter(pc.equal(rows.column("a"), "x"))
assert "pandas" not in sys.modules
import pandas
assert rows.to_pandas()["a"].tolist() == ["x", "y"]
"""


def test_arrays_and_scalars_do_not_import_pandas_which_stays_usable() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
