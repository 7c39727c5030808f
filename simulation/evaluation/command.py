"""What `python -m simulation evaluate` and `python -m simulation card` do."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence

from rich.console import Console

from simulation.evaluation import card, page
from simulation.evaluation.conditions import CONDITIONS, Condition
from simulation.evaluation.futures import imagined_futures
from simulation.evaluation.jobs import Job, in_order, jobs_of, kinds_of, load
from simulation.evaluation.methods import Method, choose
from simulation.evaluation.results import read, write
from simulation.evaluation.runs import evaluate
from simulation.evaluation.tables import grids
from simulation.supervisor import encode_png
from simulation.tasks import TASK_NAMES, TaskName

RESULTS_FILE = "results.json"
PAGE = "index.html"
_TERMINATED = 128 + signal.SIGTERM
_WIDTH = 160
_EVERYWHERE = (
    "shipped",
    "random_encoder",
    "policy",
)  # methods run under the shifted conditions too


def run_evaluation(options: argparse.Namespace) -> int:
    """Run, or continue, an evaluation; print tables, write results and page."""
    # An exception ends the workers in order; the default of SIGTERM would leave them running.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(_TERMINATED))
    started_s = time.monotonic()
    methods = choose(options.methods, options.policy, options.model)
    jobs = _jobs(options, methods)
    finished = evaluate(jobs, methods, options.output, options.workers)
    command = " ".join(["python -m simulation", *sys.argv[1:]])
    path = options.results or options.output / RESULTS_FILE
    results = write(finished, command, time.monotonic() - started_s, path)
    console = Console(width=_WIDTH)
    for grid in grids(results):
        console.print(grid.terminal())
    pictures = [
        (caption, page.data_uri(encode_png(sheet), "image/png"))
        for caption, sheet in imagined_futures(finished.records, methods[0])
    ]
    html = page.render(results, finished.records, methods[0], pictures)
    (options.output / PAGE).write_text(html, encoding="utf-8")
    console.print(f"written: {path}, {options.output / PAGE}")
    return 0


def _jobs(options: argparse.Namespace, methods: Sequence[Method]) -> list[Job]:
    tasks: tuple[TaskName, ...] = TASK_NAMES if options.task == "all" else (options.task,)
    kinds = kinds_of(tasks, in_order(options.objects))
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    jobs: list[Job] = []
    for method in methods:
        usual: Sequence[Condition] = CONDITIONS if method.name in _EVERYWHERE else ("seeds",)
        jobs += jobs_of(method, options.conditions or usual, kinds, seeds)
    return jobs


def write_card(options: argparse.Namespace) -> int:
    """Write tables and failures into Markdown files."""
    results = read(options.results)
    for path in options.files:
        if card.fill(path, results) and card.examples(results):
            records = [load(job, options.episodes) for job in card.examples(results)]
            card.draw(records, card.main_method(results), path.parent / card.PICTURE)
        sys.stdout.write(f"filled: {path}\n")
    return 0
