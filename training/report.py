"""`python -m training report`: a run on one HTML page that needs nothing but itself.

Everything is read from the run folder, so it can be made at any time; the loop makes it with every
checkpoint.
"""

from __future__ import annotations

import html
import json
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from training.checkpoints import latest_checkpoint, read_progress
from training.config import dump_tree
from training.curves import draw_curve
from training.errors import ConfigurationError
from training.log import (
    EVENTS_FILE,
    TRAINING_TABLE,
    VALIDATION_TABLE,
    read_events,
    read_table,
    whole_lines,
)
from training.run_folder import LAUNCHES_FILE, RunFolder, read_run

REPORT_FILE: Final = "report.html"
EVALUATION_FRAGMENT: Final = "evaluation.html"
"""What a training wants to be shown besides: a part of a page, in the run folder or in `best/`."""

_WARNINGS = 50  # shown at most

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .8rem .2rem 0; text-align: left; }
td { vertical-align: top; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: #f4f4f4; padding: 1rem; overflow-x: auto; font-size: 13px; }
figure { margin: 0; display: inline-block; width: 49%; min-width: 22rem; } svg { width: 100%; height: auto; }
.warning { color: #a04000; }
svg text { font-size: 11px; fill: #444; } svg .title { font-size: 12px; fill: #000; } svg .end { text-anchor: end; }
.axis { fill: none; stroke: #999; } .value { fill: none; stroke: #1560bd; stroke-width: 1.5; }
.pale { stroke-opacity: .3; stroke-width: 1; }
"""

Rows = Sequence[Mapping[str, float]]


def add_report_command(commands: Any) -> None:
    """Add `report` to the command line."""
    text = "make an HTML page of a run"
    parser = commands.add_parser("report", help=text, description=__doc__)
    parser.add_argument("run", type=Path, help="run folder")
    parser.set_defaults(start=_start)


def _start(options: Namespace) -> int:
    sys.stdout.write(f"{write_report(options.run)}\n")
    return 0


def write_report(run: Path) -> Path:
    """Write `report.html` into a run folder, finished or not, and return its path.

    Raises:
        ConfigurationError: It is no run folder, or nothing was logged yet.
    """
    kind, recipe = read_run(run)
    rows = read_table(run / TRAINING_TABLE)
    evaluation = _evaluation(run)
    if not rows and not evaluation:
        raise ConfigurationError(
            f"{run} has no row in {TRAINING_TABLE} yet; wait for the first one"
        )
    parts = [
        f"<h1>{html.escape(run.resolve().name)}: {html.escape(kind)}</h1>",
        _summary(run, recipe, rows),
        evaluation,
        "<h2>Training</h2>",
        _curves(rows),
    ]
    validation = read_table(run / VALIDATION_TABLE)
    if validation:
        parts += ["<h2>Validation</h2>", _curves(validation)]
    parts += ["<h2>Warnings</h2>", _warnings(read_events(run / EVENTS_FILE))]
    parts += ["<h2>Launches</h2>", _launches(run / LAUNCHES_FILE)]
    parts += ["<h2>Recipe</h2>", f"<pre>{html.escape(dump_tree(recipe))}</pre>"]
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>{html.escape(run.resolve().name)}</title><style>{_STYLE}</style>"
        f"<body>{''.join(parts)}</body></html>\n"
    )
    path = run / REPORT_FILE
    path.write_text(page, encoding="utf-8")
    return path


def _evaluation(run: Path) -> str:
    for path in (run / EVALUATION_FRAGMENT, RunFolder(run).best / EVALUATION_FRAGMENT):
        if path.is_file():
            return path.read_text(encoding="utf-8")
    return ""


def _summary(run: Path, recipe: Mapping[str, Any], rows: Rows) -> str:
    last = rows[-1] if rows else {"step": 0, "loss": float("nan")}
    facts = {
        "updates logged": f"{int(last['step']):,} of {recipe['steps']:,}",
        "batch": f"{recipe['batch_size']:,} samples",
        "last loss": f"{last['loss']:.5g}",
        "median time of an update": f"{_median(rows, 'step_s'):.3g} s",
        "of that, waiting for data": f"{_median(rows, 'data_s'):.3g} s",
        "samples per second": f"{_median(rows, 'samples_per_s'):.4g}",
    }
    checkpoint = latest_checkpoint(RunFolder(run).checkpoints)
    if checkpoint is not None:
        progress = read_progress(checkpoint)
        facts["newest checkpoint"] = checkpoint.name
        if progress.best_step is not None:
            facts["best validation"] = f"{progress.best_score:.5g} after {progress.best_step:,}"
    return _table(facts)


def _median(rows: Rows, name: str) -> float:
    values = sorted(row[name] for row in rows if name in row)
    return values[len(values) // 2] if values else float("nan")


def _curves(rows: Rows) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row if name != "step"))
    figures = []
    for name in names:
        points = [(row["step"], row[name]) for row in rows if name in row]
        steps, values = zip(*points, strict=True)
        figures.append(f"<figure>{draw_curve(name, steps, values)}</figure>")
    return "".join(figures)


def _warnings(events: Sequence[Mapping[str, Any]]) -> str:
    found = [event for event in events if event["kind"] in ("warning", "diverged")]
    if not found:
        return "<p>None.</p>"
    lines = "".join(
        f"<li class='warning'>update {event['step']:,}: "
        f"{html.escape(event.get('text') or event.get('what', ''))}</li>"
        for event in found[:_WARNINGS]
    )
    more = f"<p>and {len(found) - _WARNINGS:,} more</p>" if len(found) > _WARNINGS else ""
    return f"<ul>{lines}</ul>{more}"


def _launches(path: Path) -> str:
    tables = []
    for line in whole_lines(path):
        launch = json.loads(line)
        launch["command"] = " ".join(launch["command"])
        versions = launch.pop("versions")
        launch["versions"] = ", ".join(f"{name} {number}" for name, number in versions.items())
        launch["environment"] = ", ".join(f"{k}={v}" for k, v in launch["environment"].items())
        tables.append(_table(launch))
    return "<hr>".join(tables)


def _table(facts: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(str(name))}</th><td>{html.escape(str(value))}</td></tr>"
        for name, value in facts.items()
    )
    return f"<table>{rows}</table>"
