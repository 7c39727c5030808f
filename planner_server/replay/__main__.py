"""`python -m planner_server.replay PATH... [--model FOLDER]... [--planner NAME]...`: every model with every planner.

Exit status: 0 done, 1 more unusable episodes than `--max-bad`, 2 it could not be done at all, 130 interrupted.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

try:
    from planner_server.errors import PlannerError
    from planner_server.planning import planners
    from planner_server.replay.local_planner import LocalPlanner
    from planner_server.served_model import load_served_model
    from planner_server.settings import Settings, load_settings
    from trajectories.errors import TrajectoryError
    from trajectories.replay.engine import PlannerUnderTest
    from trajectories.replay.job import add_arguments, carry_out, job_of
except ModuleNotFoundError as error:  # the wheel is the same on every machine, the extras are not
    sys.exit(f"error: {error}; pip install 'vjepa-planner[server]'")

FAILED, INTERRUPTED = 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        settings = load_settings()
        models = options.model or [settings.model]
        names = options.planner or [settings.default_planner]
        opened = [
            _opened(settings, model, name, options.batch, _label(model, name, models, names))
            for model in models
            for name in names
        ]
        return carry_out(job_of(options), opened)
    except (TrajectoryError, PlannerError) as error:
        sys.stderr.write(f"error: {error}\n")
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m planner_server.replay",
        description="Judge planners on recorded episodes, in this process. The server's settings "
        "(PLANNER_CONFIG, PLANNER_*) hold for device, precision, horizon, deadline and planners.",
    )
    add_arguments(parser)
    add = parser.add_argument
    add("--model", type=Path, action="append", help="world model; several are compared")
    add("--planner", choices=list(planners), action="append", help="several are compared")
    add(
        "--batch", type=int, default=1, help="questions planned in one call, for CUDA (%(default)s)"
    )
    return parser


@contextmanager
def _opened(
    settings: Settings, path: Path, planner: str, batch: int, label: str
) -> Iterator[PlannerUnderTest]:
    """Load a model for the time of its replay only."""
    model = load_served_model(settings.model_copy(update={"model": path}))
    with LocalPlanner(
        model,
        planner,
        horizon=settings.horizon,
        deadline_ms=settings.deadline_ms,
        batch=batch,
        label=label,
    ) as local:
        yield local


def _label(model: Path, planner: str, models: Sequence[Path], names: Sequence[str]) -> str:
    """Name what differs: planners of one model, or models, or both."""
    if len(models) == 1:
        return planner
    name = model.stem if model.is_file() else model.name
    return name if len(names) == 1 else f"{name} {planner}"


if __name__ == "__main__":
    sys.exit(main())
