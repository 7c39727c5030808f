"""The methods that one table compares: the shipped planner, what it must beat, and swaps of its parts.

A method is a policy by name and a schedule. Policies that see the truth are marked: they say what
limits the others and are no competitors.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from simulation.errors import InvalidTaskError
from simulation.evaluation.policy import PolicySpec
from simulation.evaluation.schedules import SCHEDULES, Schedule

Group = Literal["shipped", "quick", "baselines", "ablations", "swaps"]

SERVED = "planner_server.policy:served"
_INFORMED = "simulation.evaluation.baselines"
_RANDOM_ENCODER = "benchmarks/models/random_encoder"


@dataclass(frozen=True)
class Method:
    """One row of the comparison.

    Attributes:
        name: On the command line and in files.
        label: In tables.
        policy: `package.module:factory?option=value`.
        schedule: Name of one of `SCHEDULES`.
        group: `quick` baselines cost nothing and are run by default.
        sees_truth: Whether it is made with the task and the simulator.
        takes_model: Whether it has an option `model`, the world model to use.
    """

    name: str
    label: str
    policy: str
    schedule: str = "task"
    group: Group = "ablations"
    sees_truth: bool = False
    takes_model: bool = False

    @property
    def spec(self) -> PolicySpec:
        """The policy, taken apart."""
        return PolicySpec.parse(self.policy)

    @property
    def order(self) -> Schedule:
        """The schedule."""
        return SCHEDULES[self.schedule]

    @property
    def described_by(self) -> PolicySpec | None:
        """The policy that can say which model is used; None where there is none."""
        if not self.sees_truth:
            return self.spec
        if not self.takes_model:
            return None
        options = {key: value for key, value in self.spec.options.items() if key == "model"}
        return PolicySpec.parse(SERVED).having(**options)

    def with_model(self, model: str) -> Method:
        """Return the same method with another world model, where it has one."""
        if not self.takes_model:
            return self
        return dataclasses.replace(self, policy=str(self.spec.having(model=model)))


def _served(name: str, label: str, query: str = "", schedule: str = "task") -> Method:
    return Method(
        name,
        label,
        f"{SERVED}{query}",
        schedule,
        _GROUPS.get(name, "ablations"),
        takes_model=True,
    )


_GROUPS: dict[str, Group] = {
    "shipped": "shipped",
    "random_encoder": "baselines",
    "timed_by_truth": "swaps",
    "searched_longer": "swaps",
}

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        _served("shipped", "shipped model and planner"),
        Method(
            "oracle",
            "oracle: knows the goal pose",
            f"{_INFORMED}:oracle",
            group="quick",
            sees_truth=True,
        ),
        Method("random", "random actions", f"{_INFORMED}:random", group="quick", sees_truth=True),
        Method("still", "do nothing", f"{_INFORMED}:still", group="quick", sees_truth=True),
        dataclasses.replace(
            _served("random_encoder", "random frozen encoder", f"?model={_RANDOM_ENCODER}"),
            takes_model=False,
        ),
        Method(
            "pixels",
            "pixel L1, true dynamics",
            f"{_INFORMED}:true_dynamics",
            group="baselines",
            sees_truth=True,
        ),
        _served("icem", "planner icem", "?planner=icem"),
        _served("cem", "planner cem", "?planner=cem&candidates=96&iterations=4"),
        _served("half_box", "action box 7.5 cm", "?max_step_m=0.075"),
        _served("paper", "sub-goals 4/10/4", schedule="paper"),
        _served("settled", "sub-goal ends when plans are small", schedule="settled"),
        _served("energy", "sub-goal ends when the energy stalls", schedule="energy"),
        _served(
            "planned_gripper", "gripper planned, no rule", "?gripper=planned", "planned_gripper"
        ),
        Method(
            "true_dynamics",
            "model's energy, true dynamics",
            f"{_INFORMED}:true_dynamics?energy=planner_server.policy:token_energy",
            group="swaps",
            sees_truth=True,
            takes_model=True,
        ),
        _served("timed_by_truth", "sub-goal ends at the true goal pose", schedule="truth"),
        _served(
            "searched_longer",
            "planner icem, ten times the candidates",
            "?planner=icem&uniform_candidates=1920&cloud_candidates=800",
        ),
    )
}
GROUPS: tuple[Group, ...] = get_args(Group)
DEFAULT_METHODS = ("shipped", "quick")


def choose(
    names: Sequence[str], policy: str | None = None, model: str | None = None
) -> list[Method]:
    """Return methods by their names or those of their groups, in the table's order.

    Args:
        names: Methods, groups, or "all".
        policy: `package.module:factory` to evaluate as the method `policy`, before all others.
        model: World model for every method that has one.

    Raises:
        InvalidTaskError: A name does not exist.
        PolicyError: The policy is not named as it should be.
    """
    unknown = set(names) - {*METHODS, *GROUPS, "all"}
    if unknown:
        known = ", ".join([*GROUPS, *METHODS, "all"])
        raise InvalidTaskError(f"no method {', '.join(sorted(unknown))}; there are {known}")
    chosen = [
        method
        for method in METHODS.values()
        if method.name in names or method.group in names or "all" in names
    ]
    if policy is not None:
        chosen = [Method("policy", str(PolicySpec.parse(policy)), policy, group="shipped")] + [
            method for method in chosen if method.name != "shipped"
        ]
    return [method.with_model(model) for method in chosen] if model else chosen
