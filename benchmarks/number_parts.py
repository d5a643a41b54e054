"""What `make numbers` measures: each part's command, the figures in what it prints, and the texts of the manual.

A pattern finds a figure in the output. A text is a format of figures; the manual has it between `<!-- n:NAME -->` and
`<!-- /n -->`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Part:
    """A command (`{photos}` and `{truth}` are filled in, `{python}` is this interpreter), its short form for a trial,
    patterns with one group for each figure, figures that follow from others, and texts by their name in the manual."""

    command: str
    trial: str
    patterns: Mapping[str, str]
    texts: Mapping[str, str]
    derived: Mapping[str, Callable[[Figures], float]] = field(default_factory=dict)


def figures_of(part: Part, output: str) -> Figures:
    """The figures in what a part's command printed. Raises ValueError for one that is missing."""
    found: Figures = {}
    for name, pattern in part.patterns.items():
        match = re.search(pattern, output, re.MULTILINE)
        if match is None:
            raise ValueError(f"the output has no {name}: {pattern}")
        found[name] = float(match.group(1).replace(",", ""))
    for name, follow in part.derived.items():
        found[name] = follow(found)
    return found


def texts_of(part: Part, figures: Figures) -> dict[str, str]:
    """The texts of a part, by their names in the manual."""
    return {name: text.format_map(figures) for name, text in part.texts.items()}


def _row(folder: str, tool: str, column: int) -> str:
    """A pattern for a cell of the table that peers.py prints; the columns behind the tool count from 1."""
    return rf"^\| {folder} \| {tool} \|" + r"[^|]*\|" * (column - 1) + r" ([\d.]+)"


_MANY, _LARGE, _FEW = r"\d+ photos(?: of 0\.19 MP)?", r"\d+ photos of 12 MP", r"20 photos(?: of 0\.19 MP)?"
_PEERS = {"timm": "timm", "pipeline": "Hugging Face pipeline", "ray": "Ray Data"}
_PER_PEER = {
    f"{size}_{name}": _row(folder, tool, 2)
    for size, folder in (("many", _MANY), ("large", _LARGE))
    for name, tool in _PEERS.items()
}

PARTS = {
    "peers": Part(
        "{python} benchmarks/peers.py {photos} --count 500",
        "{python} benchmarks/peers.py {photos} --count 30 --large-count 2 --runs 1 --results {scratch}",
        {
            "many_rate": _row(_MANY, "label-dir", 1),
            "large_rate": _row(_LARGE, "label-dir", 1),
            "few_s": _row(_FEW, "label-dir", 3),
            "loop_s": _row(_FEW, "plain onnxruntime", 3),
            **_PER_PEER,
        },
        {
            "peers": "{many_rate:.0f} photos/s: {many_timm:.1f} times timm, {many_pipeline:.1f} times a Hugging Face "
            "pipeline, {many_ray:.1f} times Ray Data",
            "peers-large": "{large_rate:.1f} photos/s: {large_timm:.1f}, {large_pipeline:.1f} and {large_ray:.1f} "
            "times the same",
            "peers-few": "{loop_s:.1f} s by this loop, {few_s:.1f} s by label-dir",
        },
    ),
    "peers-1000": Part(
        "{python} benchmarks/peers.py {photos} --peer timm --count 1000 --large-count 1 --runs 5 --results {scratch}",
        "{python} benchmarks/peers.py {photos} --peer timm --count 30 --large-count 1 --runs 1 --results {scratch}",
        {
            "times": _row(_MANY, "timm", 2),
            "ours_mb": _row(_MANY, "label-dir", 4),
            "timm_mb": _row(_MANY, "timm", 4),
        },
        {"peers-1000": "{times:.1f} times, {share:.2f} of the memory of all processes"},
        {"share": lambda figures: figures["ours_mb"] / figures["timm_mb"]},
    ),
    "throughput": Part(
        "{python} benchmarks/throughput.py {photos} --count 1500 --runs 11",
        "{python} benchmarks/throughput.py {photos} --count 40 --runs 1",
        {"rate": r"pipeline ([\d.]+) photos/s", "ratio": r"bound .* ratio ([\d.]+)"},
        {"throughput": "{ratio:.2f} (median of 11 pairs; {rate:.0f} photos/s)"},
    ),
    "decoding": Part(
        "{python} benchmarks/decoding.py {photos}",
        "{python} benchmarks/decoding.py {photos} --count 4",
        {
            "small_ms": r"as they are \| ([\d.]+)",
            "large_ms": r"12 megapixels \| ([\d.]+)",
            "small_share": r"as they are (?:\|[^|]*){3}\| ([\d.]+)",
            "large_share": r"12 megapixels (?:\|[^|]*){3}\| ([\d.]+)",
        },
        {
            "decoding": "{small_ms:.1f} / {large_ms:.1f} ms of CPU, {small_share:.2f} / {large_share:.2f} of "
            "torchvision's transforms"
        },
    ),
    "start-up": Part(
        "{python} benchmarks/start_up.py",
        "{python} benchmarks/start_up.py --count 2 --runs 1",
        {
            "first_s": r"model built: ([\d.]+)",
            "warm_s": r"warm cache: ([\d.]+)",
            "share": r"^ratio ([\d.]+)",
            "of_loop": r"label-dir / loop ([\d.]+)",
        },
        {
            "start-up": "{warm_s:.2f} s, {of_loop:.2f} times a bare onnxruntime loop over the same file",
            "start-up-share": "{warm_s:.2f} s, {share:.2f} of `import torch, torchvision`",
            "start-up-first": "{first_s:.0f} s",
        },
    ),
    "accuracy": Part(
        "{python} benchmarks/accuracy.py {photos} {truth}",
        "{python} benchmarks/accuracy.py {photos} {truth}",
        {"top1": r"Top-1 ([\d.]+)", "top3": r"Top-3 ([\d.]+)"},
        {"accuracy": "{top1:.2%} / {top3:.1%}"},
    ),
    "certify": Part(
        "{bin}/label-models certify efficientnet_lite0 --photos {photos}",
        "{bin}/label-models certify efficientnet_lite0 --photos {photos} --samples 4 --min-agreement 0",
        {
            "agreement": r"Top-1 agreement with fp32 +([\d.]+)%",
            "times": r"images/s, .*?: ([\d.]+) times",
            "int8_mb": r"^file +int8 ([\d.]+)",
            "fp32_mb": r"^file .*?fp32 ([\d.]+)",
        },
        {
            "certify": "{agreement:.1f}%, {times:.2f} times",
            "certify-size": "{int8_mb:.2f} MB / {fp32_mb:.2f} MB",
        },
    ),
    "runner": Part(
        "{python} benchmarks/runner.py {photos} --count 1000 --pairs 7",
        "{python} benchmarks/runner.py {photos} --count 40 --pairs 1",
        {
            "megabytes": r"environment of the runner: (\d+) MB",
            "ratio": r"full installation: ([\d.]+)",
            "first_s": r"20 photos from the shell: ([\d.]+)",
        },
        {
            "runner-size": "{megabytes:.0f} MB",
            "runner-rate": "{ratio:.2f} of the images/s, {first_s:.2f} s for 20 photos from the shell",
        },
    ),
    "scale-label": Part(
        "{python} benchmarks/scale.py label {photos}",
        "{python} benchmarks/scale.py label {photos} --count 200",
        {
            "first": r"tenth  1: +([\d.]+)",
            "last": r"tenth 10: +([\d.]+)",
            "share": r"rate against the first's: ([\d.]+)",
            "cpu_share": r"per CPU second against the first's: ([\d.]+)",
            "memory_mb": r"tenth 10: .* (\d+) MB",
        },
        {
            "scale-label": "{first:.0f} photos/s in the first tenth, {last:.0f} in the last: {share:.2f} "
            "({cpu_share:.2f} per CPU second); memory {memory_mb:.0f} MB"
        },
    ),
    "scale-walk": Part(
        "{python} benchmarks/scale.py walk",
        "{python} benchmarks/scale.py walk --files 2000 --runs 1",
        {"rate": r"s, ([\d,]+) files/s"},
        {"scale-walk": "{rate:,.0f} files/s"},
    ),
    "scale-rerun": Part(
        "{python} benchmarks/scale.py rerun",
        "{python} benchmarks/scale.py rerun --files 2000",
        {"seconds": r"unchanged rows: ([\d.]+)", "memory_mb": r"at most (\d+) MB"},
        {"scale-rerun": "{seconds:.1f} s, at most {memory_mb:.0f} MB resident"},
    ),
    "merging": Part(
        "{python} benchmarks/merging.py",
        "{python} benchmarks/merging.py --rows 50000",
        {
            "ranges": r"^ranges .*? ([\d.]+) rows/s",
            "ranges_mb": r"^ranges [^\n]*?(\d+) MB",
            "interleaved": r"^interleaved .*? ([\d.]+) rows/s",
            "interleaved_mb": r"^interleaved [^\n]*?(\d+) MB",
        },
        {
            "merging": "parts of ranges {ranges:,.0f} rows/s in {ranges_mb:.0f} MB; four tables that interleave "
            "{interleaved:,.0f} rows/s in {interleaved_mb:.0f} MB",
        },
    ),
    "scaling": Part(
        "{python} benchmarks/scaling_simulation.py {photos}",
        "{python} benchmarks/scaling_simulation.py {photos} --count 60 --runs 1 --photos-in-all 2000000 "
        "--results {scratch} --picture {scratch}/scaling.png",
        {
            "core": r"labelling: ([\d.]+) photos/s a core",
            "start_s": r"start: ([\d.]+) s",
            "range_s": r"each range: ([\d.]+) s",
            "part_mb": r"part of 20000 rows: [\d.]+ s, ([\d.]+) MB",
            "keys": r"listing: (\d+) keys/s",
            "merge": r"merging: (\d+) rows/s",
            "gets_usd": r"million photos: ([\d.]+) USD of GETs",
            "cpu_usd": r"USD of GETs, ([\d.]+) USD of CPU",
            "core_hours": r"USD of CPU \(([\d.]+) core hours",
        },
        {
            "scaling-costs": "{core:.0f} photos/s a core; {start_s:.1f} s to start, {range_s:.2f} s for each range; a "
            "part of 20,000 rows has {part_mb:.1f} MB; {keys:,.0f} keys/s listed, {merge:,.0f} rows/s merged",
            "scaling-money": "${gets_usd:.2f} of GETs and ${cpu_usd:.2f} of CPU ({core_hours:.1f} core hours)",
        },
    ),
    "protections": Part(
        "{python} benchmarks/protections.py {photos} --pairs 7",
        "{python} benchmarks/protections.py {photos} --count 20 --pairs 1",
        {"rate": r"median ratio of images/s ([\d.]+)", "work": r"start included ([\d.]+)"},
        {"protections": "{work:.3f} of the work per CPU second, {rate:.3f} of the images/s (medians of 7 pairs)"},
    ),
    "night": Part(
        "{python} benchmarks/night.py",
        "{python} benchmarks/night.py --rows 500 --new 3",
        {"seconds": r"\d new: ([\d.]+) s in all", "labelling_s": r"\d new: .*?labelling ([\d.]+)"},
        {"night": "{seconds:.1f} s, of which labelling {labelling_s:.1f} s"},
    ),
    "watch-soak": Part(
        "{python} benchmarks/watch_soak.py",
        "{python} benchmarks/watch_soak.py --count 200",
        {
            "first": r"^rate: ([\d.]+)",
            "last": r"^rate: .* then, ([\d.]+)",
            "least_mb": r"after warm-up: ([\d.]+)",
            "most_mb": r"after warm-up: [\d.]+ to ([\d.]+)",
            "files": r"descriptors: \d+ then, (\d+)",
            "idle": r"^idle: ([\d.]+)",
        },
        {
            "watch-soak": "{first:.0f} photos/s after the warm-up, {last:.0f} at the end; {least_mb:.0f} to "
            "{most_mb:.0f} MB with mapped files; {files:.0f} open files",
            "watch-idle": "{idle:.2f}% of a core",
        },
    ),
    "watch-lag": Part(
        "{python} benchmarks/watch_lag.py --photos {photos} --count 200",
        "{python} benchmarks/watch_lag.py --photos {photos} --count 5",
        {
            "p50_s": r"^default options[^\n]*?p50 ([\d.]+)",
            "p95_s": r"^default options[^\n]*?p95 ([\d.]+)",
            "renamed_p50_s": r"^--flush[^\n]*?p50 ([\d.]+)",
            "renamed_p95_s": r"^--flush[^\n]*?p95 ([\d.]+)",
        },
        {
            "watch-lag": "p50 {p50_s:.2f} s, p95 {p95_s:.2f} s",
            "watch-lag-renamed": "p50 {renamed_p50_s:.2f} s, p95 {renamed_p95_s:.2f} s",
        },
    ),
    "serve": Part(
        "{python} benchmarks/serve.py {photos} --rounds 2 --count 18000 --flask-count 2000 --single 1000",
        "{python} benchmarks/serve.py {photos} --rounds 1 --count 40 --flask-count 10 --single 10",
        {
            "label_dir": r"^label-dir: ([\d.]+)",
            "label_serve": r"^label-serve: ([\d.]+)",
            "flask": r"^Flask: ([\d.]+)",
            "share": r"^label-serve / label-dir: ([\d.]+)",
            "times": r"^label-serve / Flask: ([\d.]+)",
            "ours_mb": r"^memory: label-serve ([\d.]+)",
            "flask_mb": r"^memory: .* Flask ([\d.]+)",
            "p50_ms": r"p50: ([\d.]+)",
            "p95_ms": r"p95: ([\d.]+)",
            "p50_ratio": r"p50: [^\n]* ratio ([\d.]+)",
            "p95_ratio": r"p95: [^\n]* ratio ([\d.]+)",
        },
        {
            "serve-rate": "{label_serve:.0f} photos/s, {share:.2f} of the {label_dir:.0f} of label-dir",
            "serve-flask": "{times:.1f} times its {flask:.1f} photos/s",
            "serve-memory": "{ours_mb:.0f} MB, {memory_share:.2f} of its {flask_mb:,.0f} MB",
            "serve-single": "p50 {p50_ms:.1f} ms, p95 {p95_ms:.1f} ms: {p50_ratio:.2f} and {p95_ratio:.2f} of the same "
            "work in one process",
        },
        {"memory_share": lambda figures: figures["ours_mb"] / figures["flask_mb"]},
    ),
    "desk": Part(
        "{python} benchmarks/desk.py {photos}",
        "{python} benchmarks/desk.py {photos} --rows 500 --answers 3 --openings 2",
        {
            "first_ms": r"^first photo: median ([\d.]+)",
            "first_p95_ms": r"^first photo: .*? p95 ([\d.]+)",
            "next_ms": r"^next photo: median ([\d.]+)",
            "next_p95_ms": r"^next photo: .*? p95 ([\d.]+)",
        },
        {
            "desk": "first photo {first_ms:.0f} ms (p95 {first_p95_ms:.0f}), next photo {next_ms:.0f} ms "
            "(p95 {next_p95_ms:.0f})"
        },
    ),
    "report-page": Part(
        "{python} benchmarks/report_page.py",
        "{python} benchmarks/report_page.py --photos 300",
        {
            "megabytes": r"size of the file: ([\d.]+)",
            "first_s": r"first thumbnail after ([\d.]+)",
            "search_ms": r"^search: (\d+)",
            "tab_mb": r"memory of the tab: (\d+)",
        },
        {
            "report-page": "{megabytes:.0f} MB, first thumbnail after {first_s:.1f} s, search {search_s:.1f} s, tab "
            "{tab_mb:.0f} MB"
        },
        {"search_s": lambda figures: figures["search_ms"] / 1000},
    ),
    "object-storage": Part(
        "{python} benchmarks/object_storage.py label {photos}",
        "{python} benchmarks/object_storage.py label {photos} --count 40 --runs 1",
        {
            **{f"ratio_{delay}": rf"^s3 \+{delay} ms .*?ratio ([\d.]+)" for delay in (0, 20, 100)},
            **{f"whole_{delay}": rf"^s3 \+{delay} ms .*?start and end ([\d.]+)" for delay in (0, 20, 100)},
            **{f"more_{delay}_mb": rf"^s3 \+{delay} ms +\d+ MB, \+?([\d.-]+)" for delay in (0, 20, 100)},
        },
        {
            "object-storage": "{ratio_0:.2f}, {ratio_20:.2f} and {ratio_100:.2f} of the photos/s, with start and end "
            "{whole_0:.2f}, {whole_20:.2f} and {whole_100:.2f}; at most {more_mb:.0f} MB more"
        },
        {"more_mb": lambda figures: max(figures[f"more_{delay}_mb"] for delay in (0, 20, 100))},
    ),
    "object-storage-listing": Part(
        "{python} benchmarks/object_storage.py listing",
        "{python} benchmarks/object_storage.py listing --keys 3000 --runs 1",
        {"rate": r"^listing: ([\d,]+)", "peak_mb": r"more, (\d+) MB in all"},
        {"object-storage-listing": "{rate:,.0f} keys/s, {peak_mb:.0f} MB in all"},
    ),
}
