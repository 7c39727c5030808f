"""A task as a file: the sub-goals in order, what the gripper does after each, and the cell's limits.

One goal image belongs to each sub-goal. `TaskProgress` is the only thing that decides when a
sub-goal ends: its steps are spent, or the planner has nothing left to do there.
"""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from robot_client.errors import TaskError
from robot_client.protocol import MAX_GOALS
from robot_client.safety import SafetyLimits

GripperAction = Literal["hold", "open", "close"]


class SubGoal(BaseModel):
    """One goal image and what happens around it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: Annotated[str, Field(min_length=1, max_length=40)]
    """For people and for the simulator's goal images."""
    max_steps: Annotated[int, Field(ge=1, le=500)]
    """Plans executed at most before the next sub-goal begins."""
    gripper_after: GripperAction = "hold"
    """At its end: leave the gripper, open it, or close it with force."""


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
    safety: SafetyLimits = SafetyLimits()
    """Limits that every action must keep."""

    @property
    def max_steps(self) -> int:
        """Plans executed at most in the whole run."""
        return sum(sub_goal.max_steps for sub_goal in self.sub_goals)

    @model_validator(mode="after")
    def _has_distinct_names(self) -> Self:
        names = [sub_goal.name for sub_goal in self.sub_goals]
        if len(set(names)) != len(names):
            raise ValueError(f"sub-goals need different names, not {', '.join(names)}")
        return self


def load_task(path: Path) -> Task:
    """Read a task file.

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
        return Task.model_validate(values)
    except ValidationError as error:
        raise TaskError(f"{path} is no valid task: {error}") from error


class TaskProgress:
    """Where a run stands in its task."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._small_plans = 0
        self.goal_index = 0
        self.steps_in_sub_goal = 0

    @property
    def is_finished(self) -> bool:
        """Whether every sub-goal has ended."""
        return self.goal_index >= len(self._task.sub_goals)

    @property
    def sub_goal(self) -> SubGoal:
        """The sub-goal under way; after the last one, still the last."""
        return self._task.sub_goals[min(self.goal_index, len(self._task.sub_goals) - 1)]

    def has_arrived(self, planned_step_m: float) -> bool:
        """Note the length of a planned displacement [m]; True when the planner sees nothing to do."""
        is_small = planned_step_m < self._task.settled_step_m
        self._small_plans = self._small_plans + 1 if is_small else 0
        return self._small_plans >= self._task.settled_plans

    def count_step(self) -> bool:
        """Note an executed plan; True when the sub-goal's steps are spent."""
        self.steps_in_sub_goal += 1
        return self.steps_in_sub_goal >= self.sub_goal.max_steps

    def advance(self) -> None:
        """Begin the next sub-goal."""
        self.goal_index += 1
        self.steps_in_sub_goal = self._small_plans = 0
