"""A task as a file: the sub-goals in order, what the gripper does after each, and the cell's limits.

One goal image belongs to each sub-goal: named in the file, given on the command line, or handed out
by the simulator. Where a run stands in its task is `progress.TaskProgress`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from robot_client.errors import TaskError
from robot_client.protocol import MAX_GOALS
from robot_client.safety import SafetyLimits

GripperAction = Literal["hold", "open", "close"]
_Energy = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class SubGoal(BaseModel):
    """One goal image and what happens around it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: Annotated[str, Field(min_length=1, max_length=40)]
    """For people and for the simulator's goal images."""
    max_steps: Annotated[int, Field(ge=1, le=500)]
    """Plans executed at most before the next sub-goal begins."""
    image: Path | None = None
    """PNG or JPEG of the goal, relative to the task file; `robot-client teach` makes it."""
    gripper_after: GripperAction = "hold"
    """At its end: leave the gripper, open it, or close it with force."""
    done_energy: _Energy | None = None
    """At or below this energy of the observed frame it is reached; None: steps alone decide."""
    retries: Annotated[int, Field(ge=0, le=20)] = 0
    """How often it may be begun again: `done_energy` not reached, or the energy only rises."""
    retry_from: str | None = None
    """Sub-goal to go back to for a retry; None: this one."""
    gripper_on_retry: GripperAction = "hold"
    """Before a retry, e.g. open after a failed grasp."""


class Success(BaseModel):
    """How a finished run is judged."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    by: Literal["energy", "operator"]
    """"energy": one more look at the end; "operator": a question at the terminal."""
    energy: _Energy | None = None
    """For "energy": at or below it the task has succeeded."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if (self.by == "energy") != (self.energy is not None):
            raise ValueError("success by energy needs `energy`, by operator must not have it")
        return self


class Task(BaseModel):
    """What one run does; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    """Name of the task; the simulator knows reach, grasp and pick_and_place."""
    description: str
    """One sentence for people."""
    sub_goals: Annotated[tuple[SubGoal, ...], Field(min_length=1, max_length=MAX_GOALS)]
    """In order; one goal image each."""
    gripper_at_start: GripperAction = "hold"
    """Before the first observation."""
    gripper_from_plan: bool = False
    """Whether the planner searches the gripper, too, and plans for it are followed."""
    settled_step_m: Annotated[float, Field(ge=0)] = 0.012
    """A planned displacement below this [m] counts as having arrived."""
    settled_plans: Annotated[int, Field(ge=1)] = 2
    """So many such plans in a row end a sub-goal early."""
    stop_after_missed: Annotated[int, Field(ge=1)] = 10
    """So many control periods in a row without a usable plan end the run."""
    restart_timeout_s: Annotated[float, Field(ge=0, le=3600)] = 60.0
    """How long the arm waits, holding, for a server that has announced its restart [s]."""
    success: Success | None = None
    """How the end is judged; None: by whoever looks."""
    safety: SafetyLimits = SafetyLimits()
    """Limits that every action must keep."""

    @property
    def max_steps(self) -> int:
        """Plans executed at most in the whole run, without retries."""
        return sum(sub_goal.max_steps for sub_goal in self.sub_goals)

    def index_of(self, name: str) -> int:
        """Position of a sub-goal."""
        return [sub_goal.name for sub_goal in self.sub_goals].index(name)

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        names = [sub_goal.name for sub_goal in self.sub_goals]
        if len(set(names)) != len(names):
            raise ValueError(f"sub-goals need different names, not {', '.join(names)}")
        for index, sub_goal in enumerate(self.sub_goals):
            origin = sub_goal.retry_from
            if origin is not None and origin not in names[: index + 1]:
                known = ", ".join(names[: index + 1])
                raise ValueError(f"{sub_goal.name} cannot retry from {origin!r}; known: {known}")
        return self


def load_task(path: Path) -> Task:
    """Read a task file; its image paths come out absolute.

    Raises:
        TaskError: It cannot be read, is no YAML map, or has unknown keys or values out of range.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        known = ", ".join(sorted(str(file) for file in path.parent.glob("*.yaml"))) or "none"
        raise TaskError(f"cannot read task {path}: {error.strerror}. Beside it: {known}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TaskError(f"{path} is no YAML: {error}") from error
    try:
        task = Task.model_validate(values)
    except ValidationError as error:
        raise TaskError(f"{path} is no valid task: {error}") from error
    folder = path.parent.resolve()
    sub_goals = tuple(
        sub_goal.model_copy(update={"image": folder / sub_goal.image})
        if sub_goal.image
        else sub_goal
        for sub_goal in task.sub_goals
    )
    return task.model_copy(update={"sub_goals": sub_goals})


def save_task(task: Task, path: Path) -> None:
    """Write a task file; images beside or below it are named relative to it.

    Raises:
        TaskError: It cannot be written.
    """
    values: dict[str, Any] = task.model_dump(mode="json", exclude_defaults=True)
    folder = path.parent.resolve()
    for entry, sub_goal in zip(values["sub_goals"], task.sub_goals, strict=True):
        if sub_goal.image is not None and sub_goal.image.is_relative_to(folder):
            entry["image"] = str(sub_goal.image.relative_to(folder))
    try:
        path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    except OSError as error:
        raise TaskError(f"cannot write task {path}: {error.strerror}") from error
