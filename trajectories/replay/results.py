"""What a replay found, as plain values that go to JSON and Parquet and come back.

A number that could not be had is None, never a guess; `ReplayResult.missing` says why. Units stand in the names;
energies have none. Poses and actions are as in `trajectories.poses`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from trajectories.replay.errors import ReplayError
from trajectories.storage import write_whole

PLAN = "plan"


def _none_if_nan(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Number = Annotated[float | None, BeforeValidator(_none_if_nan)]
Row = tuple[float, ...]


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PolicyStep(_Value):
    """How one policy (the plan or a baseline) did at one step; see `metrics.MotionErrors` for the definitions."""

    end_distance_xyz_m: float
    end_distance_orientation_rad: float
    end_distance_closure: float
    distance_m: float
    rotation_rad: float
    direction_cosine: Number
    energy: Number = None
    """Goal energy that the model predicts for these actions."""


class StepResult(_Value):
    """One question to the planner: from this frame to the goal frame, and the answer beside what the robot did."""

    episode: str
    step: int
    """Control periods since the episode's begin."""
    goal_step: int
    time_s: float
    """Recorded time since the episode's begin [s]."""
    is_tail: bool
    """The episode ends before the horizon does; shown, but left out of all means."""
    state: Row
    recorded: tuple[Row, ...]
    """Recorded actions `[H, 7]`, at rest after the episode's end."""
    planned: tuple[Row, ...]
    """Planned actions `[H, 7]`."""
    policies: dict[str, PolicyStep]
    """The plan and the baselines by name."""
    energy_now: Number
    """Energy of the frame itself towards this step's goal."""
    energy_recorded: Number = None
    """Goal energy that the model predicts for the recorded actions."""
    rank_of_recorded: Number = None
    """Share of random candidates with less energy than the recorded actions: 0 is best, 0.5 is chance."""
    energy_to_end: Number = None
    """Energy of the frame towards the episode's last frame."""
    surprise: Number = None
    """Distance of the frame predicted for the recorded action to the frame that came."""
    surprise_of_copy: Number = None
    """The same if the frame is predicted to stay as it is."""
    encode_ms: float
    plan_ms: float
    queue_ms: float
    round_trip_ms: float
    goal_ms: float
    """This step's share of the time that sending and encoding goals took; 0 where `encode_ms` has it."""
    evaluations: int
    warnings: tuple[str, ...] = ()


class EpisodeResult(_Value):
    """One episode."""

    name: str
    source: str
    format: str
    view: str
    clock: str
    """`measured` where timestamps were recorded, `nominal` where only a rate is known."""
    task: str | None
    is_success: bool | None
    duration_s: float
    steps: int
    warnings: tuple[str, ...]
    """What is odd about the recording but does not make it useless."""
    monotonicity: Number
    """Minus the rank correlation of time and energy to the last frame: 1 is a steady fall."""
    falling_share: Number
    """Share of steps at which that energy falls."""


class Slice(_Value):
    """Energies over a grid of translations of the first action; everything else is as recorded.

    `energies[i][j]` belongs to `across_m[j]` on the first axis and `up_m[i]` on the second.
    """

    axes: tuple[str, str]
    across_m: Row
    up_m: Row
    fixed_axis: str
    fixed_m: float
    energies: tuple[Row, ...]


class Landscape(_Value):
    """The energy around the recorded action of one step."""

    episode: str
    step: int
    recorded_m: Row
    """Recorded translation `[3]`, the true action."""
    planned_m: Row
    energy_recorded: float
    cube: tuple[Slice, ...]
    """Coarse slices over x and y, one per z."""
    fine: tuple[Slice, ...]
    """Fine slices through the recorded action."""
    lowest_m: Row
    """Translation `[3]` of the lowest energy on all grids."""
    energy_lowest: float


class Skipped(_Value):
    """An episode that could not be judged, and why."""

    episode: str
    reason: str


class Settings(_Value):
    """How the replay was done; results compare only where these agree."""

    goal_steps: int | Literal["end"]
    every: int
    draws: int | None
    seed: int
    view: str
    clock: str
    candidates: int


class PlannerCard(_Value):
    """What was asked."""

    label: str
    model: str
    planner: str
    via: str
    """`in process` or the server's address."""
    control_period_s: float
    horizon: int
    max_step: Row
    """Box of every action `[7]` [m, rad, closedness]."""


class Timing(_Value):
    """Where the time went [s]."""

    wall_s: float
    planning_s: float
    """Encoding frames and goals, and searching; a goal behind the wire is taken to last as long as its frame."""
    judging_s: float
    """Energies asked for beyond the plan."""
    overhead: Number
    """Rest of the wall clock relative to the planning time."""


class Summary(_Value):
    """A mean and its 95 % interval; see `statistics.Estimate`."""

    mean: Number
    low: Number
    high: Number
    steps: int
    episodes: int


class ReplayResult(_Value):
    """Everything one planner's replay of one set of episodes found."""

    format: Literal["vjepa-planner-replay-1"] = "vjepa-planner-replay-1"
    planner: PlannerCard
    settings: Settings
    created: str
    versions: dict[str, str]
    episodes: tuple[EpisodeResult, ...]
    steps: tuple[StepResult, ...]
    landscapes: tuple[Landscape, ...]
    skipped: tuple[Skipped, ...]
    missing: dict[str, str]
    """Metrics that could not be had, and why."""
    timing: Timing
    summary: dict[str, dict[str, Summary]]
    """By policy and metric; `overall` holds what belongs to no policy."""

    def full_steps(self) -> tuple[StepResult, ...]:
        """Return the steps that count in means: those whose horizon lies inside the episode."""
        return tuple(step for step in self.steps if not step.is_tail)


def write_json(path: Path, result: ReplayResult) -> None:
    """Write a result, replacing an older file as a whole."""
    text = result.model_dump_json(indent=1) + "\n"
    write_whole(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> ReplayResult:
    """Read a result.

    Raises:
        ReplayError: The file is not there or not a result of this version.
    """
    try:
        return ReplayResult.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ReplayError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ReplayError(
            f"{path} is no replay result: {where}: {first['msg']}. Name a JSON file that `replay` wrote"
        ) from error


def flat_rows(steps: Sequence[StepResult]) -> list[dict[str, Any]]:
    """Return the steps as rows of one table: a policy's numbers become columns such as `plan_distance_m`."""
    return [_flat(step) for step in steps]


def write_parquet(path: Path, steps: Sequence[StepResult]) -> bool:
    """Write the steps as a Parquet table; returns False where pyarrow is not installed."""
    try:
        from pyarrow import Table
        from pyarrow.parquet import write_table
    except ImportError:
        return False
    table = Table.from_pylist(flat_rows(steps))
    write_whole(path, lambda draft: write_table(table, draft))
    return True


def _flat(step: StepResult) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, value in step.model_dump().items():
        if name == "policies":
            row |= _policy_columns(value)
        elif name in ("recorded", "planned"):
            row[name] = [number for action in value for number in action]
        else:
            row[name] = list(value) if isinstance(value, tuple) else value
    return row


def _policy_columns(policies: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {
        f"{policy}_{metric}": value
        for policy, numbers in policies.items()
        for metric, value in numbers.items()
    }
