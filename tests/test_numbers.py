"""`make numbers`: every marked figure of the manual comes from a result file, and each part finds its figures."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from all_numbers import is_measured  # noqa: E402
from manual import DOCUMENTS, filled, known_texts, marked_texts  # noqa: E402
from number_parts import PARTS, figures_of, texts_of  # noqa: E402
from results import commit  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results"
# What the commands print, shortened.
OUTPUTS = {
    "throughput": "pipeline 219.3 photos/s, bound 210.8 photos/s, ratio 1.040 (0.85 to 1.12)\n",
    "decoding": "| 400, as they are | 3.10 | 9.0 | 6.9 | 0.45 | 99.00% | 100.00% |\n"
    "| 400, 12 megapixels | 21.10 | 90.0 | 162.0 | 0.13 | 99.00% | 100.00% |\n",
    "start-up": "first run ever, model built: 30.0 s\n20 photos, warm cache: 1.26 s; import torch: 5.25 s\n"
    "ratio 0.24 (medians of 7)\n"
    "a bare onnxruntime loop: 0.47 s; label-dir / loop 1.49 (1.15 to 2.23)\n",
    "accuracy": "400 rows, 400 with a known label\nTop-1 0.8725  Top-3 0.9500\n",
    "certify": "Top-1 agreement with fp32                98.00% (required 97.0%)\n"
    "images/s, 1 threads, batch 16            int8 227.6, fp32 106.0: 2.14 times\n"
    "file                                     int8 4.95 MB, fp32 18.55 MB: 26.7%\n",
    "scale-walk": "walk: 1000000 files in 6.9 s, 145,000 files/s\n",
    "protections": "6 pairs of 800 photos: median ratio of images/s 0.975\n"
    "median ratio of work per CPU second, start included 0.990\n",
    "serve": "label-dir: 422.0 (417.0 to 427.0) photos/s\nlabel-serve: 374.1 (370.4 to 377.8) photos/s\n"
    "Flask: 30.5 (29.4 to 31.5) photos/s\nlabel-serve / label-dir: 0.89 (0.88 to 0.89)\n"
    "label-serve / Flask: 12.29 (11.99 to 12.58)\nmemory: label-serve 345 MB, Flask 977 MB, 0.35 of it\n"
    "one client, p50: 9.7 ms, in process 4.7 ms, ratio 2.07\none client, p95: 19.0 ms, in process 6.1 ms, ratio 3.09\n",
    "desk": "first photo: median 324 ms, p95 600 ms, most 600 ms, the first time 600 ms\n"
    "next photo: median 71 ms, p95 121 ms, most 180 ms\n",
    "watch-lag": "default options, copied in   p50 1.21 s  p95 2.09 s  most 2.40 s\n"
    "--flush 0.2s, renamed in     p50 0.13 s  p95 0.23 s  most 0.30 s\n",
}
TEXTS = {
    "throughput": "1.04 (median of 11 pairs; 219 photos/s)",
    "decoding": "3.1 / 21.1 ms of CPU, 0.45 / 0.13 of torchvision's transforms",
    "start-up": "1.26 s, 1.49 times a bare onnxruntime loop over the same file",
    "start-up-share": "1.26 s, 0.24 of `import torch, torchvision`",
    "accuracy": "87.25% / 95.0%",
    "certify": "98.0%, 2.14 times",
    "scale-walk": "145,000 files/s",
    "protections": "0.990 of the work per CPU second, 0.975 of the images/s (medians of 7 pairs)",
    "serve-rate": "374 photos/s, 0.89 of the 422 of label-dir",
    "serve-flask": "12.3 times its 30.5 photos/s",
    "serve-memory": "345 MB, 0.35 of its 977 MB",
    "serve-single": "p50 9.7 ms, p95 19.0 ms: 2.07 and 3.09 of the same work in one process",
    "desk": "first photo 324 ms (p95 600), next photo 71 ms (p95 121)",
    "watch-lag-renamed": "p50 0.13 s, p95 0.23 s",
}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_marked_figure_is_that_of_a_result_file(document: Path) -> None:
    text = document.read_text()
    assert marked_texts(text)
    assert text.count("<!-- n:") == text.count("<!-- /n -->") == len(re.findall(r"<!-- n:[\w-]+ -->", text))
    assert filled(text, known_texts(RESULTS)) == text


def test_every_text_of_a_part_is_somewhere_in_the_manual() -> None:
    marked = {name for document in DOCUMENTS for name in marked_texts(document.read_text())}
    assert {name for part in PARTS.values() for name in part.texts} <= marked


def test_every_result_tells_when_where_and_with_which_versions() -> None:
    for name in PARTS:
        result = json.loads((RESULTS / f"{name}.json").read_text())
        assert result["name"] == name
        assert set(result["texts"]) == set(PARTS[name].texts)
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", result["date"])
        assert result["cpu"]
        assert result["cores"] > 0
        assert result["versions"]["label-dir"]


def test_the_peers_figures_are_found_in_the_table_that_is_committed() -> None:
    figures = figures_of(PARTS["peers"], (RESULTS / "peers-tf_efficientnet_lite0.md").read_text())
    assert all(value > 0 for value in figures.values())
    assert "times timm" in texts_of(PARTS["peers"], figures)["peers"]


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_part_makes_texts_of_what_its_command_prints(name: str) -> None:
    texts = texts_of(PARTS[name], figures_of(PARTS[name], OUTPUTS[name]))
    known = set(texts) & set(TEXTS)
    assert known
    assert {key: texts[key] for key in known} == {key: TEXTS[key] for key in known}


def test_an_output_without_a_figure_fails_the_part() -> None:
    with pytest.raises(ValueError, match="the output has no ratio"):
        figures_of(PARTS["throughput"], "pipeline 219.3 photos/s\n")


def test_a_mark_without_a_result_is_an_error() -> None:
    with pytest.raises(KeyError):
        filled("<!-- n:unheard-of -->1<!-- /n -->", known_texts(RESULTS))


def test_what_this_commit_has_measured_is_left_out_on_the_next_night(tmp_path: Path) -> None:
    path = tmp_path / "decoding.json"
    assert not is_measured(path)
    path.write_text(json.dumps({"commit": "0" * 40}))
    assert not is_measured(path)
    path.write_text(json.dumps({"commit": commit()}))
    assert is_measured(path) is bool(commit())
