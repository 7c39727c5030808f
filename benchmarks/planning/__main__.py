"""Compare the planners and write the results; run as `python -m planner_server.planning.bench`.

Without options it takes about a quarter of an hour on two cores. It measures the machine as it finds it: stop what
else runs there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.planning import cases, curves, published, report, shipped, speed
from benchmarks.planning.progress import Sections
from benchmarks.planning.shipped import Comparison, ShippedBench
from models.checkpoint import CONFIG_FILE, load_world_model

SHIPPED = Path("models/shipped")
RESULTS = Path("benchmarks/results")
PAGE = Path("docs/planning.md")
PLOT = Path("docs/images/planning-energy.png")
_CPU_SIZES = (16, 32, 64)
_HORIZON_COLUMNS = ["way", "horizon", "time", "of horizon 1", "arithmetic", "of horizon 1"]
_BATCH_COLUMNS = ["candidates", "way", "time", "per rollout"]
_PLAN_COLUMNS = ["planner", "evaluations", "plan", "how"]

Table = tuple[str, list[str], report.Rows]
"""Title, columns, rows."""


@dataclass(frozen=True)
class Shipped:
    """Everything measured on the shipped model."""

    comparisons: tuple[Comparison, ...]
    curves: tuple[curves.Point, ...]
    over_horizon: tuple[speed.Cost, ...]
    gflop: dict[int, dict[str, float]]
    batches: tuple[speed.Cost, ...]
    knee_ms: dict[int, float]
    together: speed.Together
    encode_ms: float


def measure_shipped(bench: ShippedBench, effort: shipped.Effort) -> Shipped:
    """Run everything on one model."""
    comparisons = [bench.compare(horizon) for horizon in effort.problems]
    return Shipped(
        comparisons=tuple(comparisons),
        curves=tuple(bench.draw_curves(comparisons[0].best)),
        over_horizon=tuple(bench.over_horizon()),
        gflop=bench.gflop(),
        batches=tuple(bench.batches(_CPU_SIZES)),
        knee_ms=bench.knee(),
        together=bench.together(),
        encode_ms=bench.encode_ms(),
    )


def tables(result: Shipped) -> list[Table]:
    """Return the tables of the shipped model: title, columns, rows."""
    both = result.together
    return [
        *(
            (report.comparison_title(c), report.COMPARISON_COLUMNS, report.comparison_rows(c))
            for c in result.comparisons
        ),
        (
            "Energy against evaluations, horizon 1, options scaled",
            ["planner", "evaluations", "gap, median", "gap, p90", "p50"],
            report.curve_rows(result.curves),
        ),
        (
            f"32 candidates over the horizon, bfloat16; encoding a frame takes {result.encode_ms:.0f} ms",
            _HORIZON_COLUMNS,
            report.horizon_rows(result.over_horizon, result.gflop),
        ),
        ("One step in every precision", _BATCH_COLUMNS, report.batch_rows(result.batches)),
        ("Batch size", ["candidates", "per rollout"], report.knee_rows(result.knee_ms)),
        (
            f"{both.problems} problems, {both.evaluations} evaluations each",
            ["how", "time"],
            [
                ["together", f"{both.together_ms:.0f} ms"],
                ["one by one", f"{both.one_by_one_ms:.0f} ms"],
            ],
        ),
    ]


def published_tables(result: published.Published) -> list[Table]:
    """Return the tables of the published architecture."""
    encoding = (
        "" if result.encode_ms is None else f"; encoding a frame takes {result.encode_ms:.0f} ms"
    )
    title = f"Published architecture, random weights, time of one plan at horizon 1{encoding}"
    found = [
        (title, _PLAN_COLUMNS, report.published_rows(result)),
        (
            "Published architecture over the horizon, bfloat16",
            _HORIZON_COLUMNS,
            report.horizon_rows(result.over_horizon, result.gflop),
        ),
        ("Published architecture, one step", _BATCH_COLUMNS, report.batch_rows(result.batches)),
    ]
    if (both := result.together) is not None:
        rows = [
            ["together", f"{both.together_ms:.0f} ms"],
            ["one by one", f"{both.one_by_one_ms:.0f} ms"],
        ]
        found.append((f"Published architecture, {both.problems} problems", ["how", "time"], rows))
    return found


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m planner_server.planning.bench", description=__doc__
    )
    parser.add_argument("--model", type=Path, default=SHIPPED, help="folder (default %(default)s)")
    effort = parser.add_mutually_exclusive_group()
    effort.add_argument("--quick", action="store_true", help="a few problems, a minute; for tests")
    effort.add_argument("--full", action="store_true", help="60 problems per horizon; an hour")
    parser.add_argument("--recorded", type=Path, help=".npz of recorded frames to plan on as well")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder (default %(default)s)")
    parser.add_argument(
        "--docs", action="store_true", help=f"rewrite the tables of {PAGE} and {PLOT}"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and write `planning-*.json`."""
    options = _parse(arguments)
    if not options.model.is_file() and not (options.model / CONFIG_FILE).is_file():
        sys.stderr.write(
            f"error: there is no model in {options.model}; `make demo-model` makes one\n"
        )
        return 2
    environment, sections = report.environment(), Sections()

    def write(name: str, result: Any) -> None:
        document = {**environment, "sections_s": sections.seconds, "result": result}
        report.write_json(options.output / f"planning-{name}.json", document)

    found, points = _measure(options, sections, write)
    for table in found:
        report.print_table(*table)
    report.print_table("Sections", ["section", "time"], report.section_rows(sections.seconds))
    if options.docs:
        curves.plot(points, PLOT, f"{options.model.name}, horizon 1")
        lines = [line for table in found for line in report.markdown(*table)]
        command = f"Measured by `{environment['command']}` on {environment['hardware']}."
        report.rewrite_section(PAGE, [command, "", *lines])
    return 0


def _measure(
    options: argparse.Namespace, sections: Sections, write: Callable[[str, Any], None]
) -> tuple[list[Table], tuple[curves.Point, ...]]:
    """Measure everything, write every part as soon as it is there, and return the tables and the curves."""
    model = load_world_model(options.model, device="cuda" if torch.cuda.is_available() else "cpu")
    model.eval().requires_grad_(requires_grad=False)
    effort = shipped.QUICK if options.quick else shipped.FULL if options.full else shipped.DEFAULT
    bench = ShippedBench(model, effort, sections)
    on_shipped = measure_shipped(bench, effort)
    write("shipped", on_shipped)
    with sections.section("published architecture"):
        rows = on_shipped.comparisons[0].rows
        on_published = published.measure({row.name: row.evaluations for row in rows})
    write("published", on_published)
    found = [*tables(on_shipped), *published_tables(on_published)]
    if options.recorded is not None:
        problems = cases.problems(model, cases.recorded(options.recorded), 1)
        on_recorded = bench.compare_on(problems, 1)
        write("recorded", on_recorded)
        title = f"Frames of {options.recorded.name}: {report.comparison_title(on_recorded)}"
        found.insert(0, (title, report.COMPARISON_COLUMNS, report.comparison_rows(on_recorded)))
    return found, on_shipped.curves


if __name__ == "__main__":
    sys.exit(main())
