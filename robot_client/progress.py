"""Where a run stands in its task: the only thing that decides when a sub-goal ends or begins again."""

from robot_client.tasks import SubGoal, Task

_EXTRA_PLANS = 3  # for a sub-goal whose last motion was cut short


class GivenUpError(Exception):
    """A sub-goal was not reached and has no retries left; the run ends."""


class TaskProgress:
    """Counts steps, small plans and retries."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._small_plans = self._cut_short = 0
        self._energy: float | None = None
        self._retries = [0] * len(task.sub_goals)
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

    @property
    def retries(self) -> int:
        """Sub-goals begun again so far."""
        return sum(self._retries)

    def seems_over(self, planned_step_m: float, energy_now: float) -> bool:
        """Whether a plan, were it made from a true look, would speak for arrival; notes nothing."""
        limit = self.sub_goal.done_energy
        is_reached = limit is not None and energy_now <= limit
        return is_reached or planned_step_m < self._task.settled_step_m

    def is_over(self, planned_step_m: float, energy_now: float) -> bool:
        """Note a plan before it is executed; True when the sub-goal ends here, without moving.

        Args:
            planned_step_m: Length of the planned displacement.
            energy_now: Energy of the observed frame.
        """
        self._energy = energy_now
        is_small = planned_step_m < self._task.settled_step_m
        self._small_plans = self._small_plans + 1 if is_small else 0
        limit = self.sub_goal.done_energy
        is_there = limit is not None and energy_now <= limit
        if is_there or self._small_plans >= self._task.settled_plans:
            self._cut_short = 0  # wherever the last motion ended, this is the place
            return True
        return self._has_spent()

    def count_step(self, *, is_reached: bool = True) -> bool:
        """Note an executed plan; True when the sub-goal ends with it.

        One with an energy to reach ends at the next look, which shows whether it is reached. None ends
        with a motion that was cut short: the gripper would close beside the object. It gets a few
        plans more, and without an arrival among them it has failed.

        Args:
            is_reached: Whether the arm came to where the plan sent it.
        """
        self.steps_in_sub_goal += 1
        self._cut_short = 0 if is_reached else self._cut_short + 1
        return self._has_spent() and self.sub_goal.done_energy is None

    def _has_spent(self) -> bool:
        beyond = self.steps_in_sub_goal - self.sub_goal.max_steps
        return beyond >= 0 and (self._cut_short == 0 or beyond >= _EXTRA_PLANS)

    def failure(self) -> str | None:
        """Why the sub-goal that ends here is not reached; None where it is, or cannot be judged."""
        limit, energy = self.sub_goal.done_energy, self._energy
        if self._cut_short:
            last = "last motion" if self._cut_short == 1 else f"last {self._cut_short} motions"
            return f"the {last} of sub-goal {self.sub_goal.name} ended short of the target"
        if limit is None or energy is None or energy <= limit:
            return None
        return f"the energy is {energy:.3f}, sub-goal {self.sub_goal.name} needs {limit:.3f}"

    def advance(self) -> None:
        """Begin the next sub-goal."""
        self._begin(self.goal_index + 1)

    def retry(self, failure: str) -> SubGoal:
        """Go back and begin again; returns the sub-goal that failed.

        Raises:
            GivenUpError: There is no retry left; the message says what failed.
        """
        failed = self.sub_goal
        if self._retries[self.goal_index] >= failed.retries:
            attempts = self._retries[self.goal_index] + 1
            text = f"{failure}; sub-goal {failed.name} given up after {attempts} attempts"
            raise GivenUpError(text)
        self._retries[self.goal_index] += 1
        self._begin(self._task.index_of(failed.retry_from or failed.name))
        return failed

    def _begin(self, goal_index: int) -> None:
        self.goal_index = goal_index
        self.steps_in_sub_goal = self._small_plans = self._cut_short = 0
        self._energy = None
