"""The description of the interface: schemathesis tries the server against it, with whatever it allows and forbids."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from models.artifact import Artifact
from pipeline.tables.cells import column_names
from tests.support.serve_process import LabelServe

_EXAMPLES = "40"


def test_what_the_description_allows_is_answered_and_what_it_forbids_is_refused(
    tiny_model: Artifact, tmp_path: Path
) -> None:
    with LabelServe(tmp_path, "-m", str(tiny_model.path)) as server:
        program = "from schemathesis.cli import schemathesis; schemathesis()"
        options = ["-n", _EXAMPLES, "--seed", "1", "--suppress-health-check", "all", "--request-timeout", "60"]
        done = subprocess.run(
            [sys.executable, "-c", program, "run", f"{server.url}openapi.json", *options],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr
        assert "5 selected / 5 total" in done.stdout
        assert server.logged() == ""


def test_rows_are_described_by_the_columns_of_a_table(tiny_model: Artifact, tmp_path: Path) -> None:
    with LabelServe(tmp_path, "-m", str(tiny_model.path), "--topk", "5") as server:
        row = server.request("GET", "/openapi.json").json["components"]["schemas"]["Row"]
        assert tuple(row["required"]) == column_names(5)
