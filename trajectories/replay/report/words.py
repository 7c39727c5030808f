"""How the page names and prints numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol

from trajectories.replay import baselines
from trajectories.replay.results import PLAN

UNKNOWN = "–"
DEGREES = 180.0 / math.pi


class Bounded(Protocol):
    """A mean that may have an interval: `results.Summary`, `statistics.Estimate`."""

    @property
    def low(self) -> float | None:
        """Lower end."""

    @property
    def high(self) -> float | None:
        """Upper end."""


@dataclass(frozen=True)
class Quantity:
    """How one metric is shown.

    Attributes:
        title: Head of its column.
        unit: Of the number as printed.
        scale: From the stored unit to the printed one.
        digits: Behind the decimal point.
        better: Which way is better.
        meaning: One sentence for the glossary.
    """

    title: str
    unit: str
    scale: float
    digits: int
    better: Literal["lower", "higher"]
    meaning: str

    def show(self, value: float | None) -> str:
        """Print a stored number."""
        if value is None or not math.isfinite(value):
            return UNKNOWN
        text = f"{self.scale * value:.{self.digits}f}"
        if not text.strip("-0."):
            text = text.removeprefix("-")  # no minus zero
        return text.replace("-", "\u2212")

    def interval(self, found: Bounded) -> str:
        """Print the interval of a mean, or nothing where there is none."""
        if found.low is None or found.high is None:
            return ""
        return f"{self.show(found.low)} to {self.show(found.high)}"


ACTION_SCORE = Quantity(
    "Action score",
    "",
    1,
    1,
    "higher",
    "The published DROID score: max(0, 800 (0.1 m − mean end distance)). 80 is perfect, 0 is a mean error of 10 cm or "
    "more. It knows neither path, rotation nor gripper.",
)
QUANTITIES = {
    "action_score": ACTION_SCORE,
    "end_distance_xyz_m": Quantity(
        "End distance",
        "cm",
        100,
        1,
        "lower",
        "Absolute error of the net displacement, summed over x, y and z, as the published score takes it.",
    ),
    "distance_m": Quantity(
        "Position error",
        "cm",
        100,
        1,
        "lower",
        "Straight-line distance between where the plan ends and where the robot was.",
    ),
    "rotation_rad": Quantity(
        "Rotation error", "°", DEGREES, 1, "lower", "Angle between the two net rotations."
    ),
    "end_distance_closure": Quantity(
        "Gripper error",
        "",
        1,
        2,
        "lower",
        "Absolute error of the net change of closedness (0 open, 1 closed).",
    ),
    "direction_cosine": Quantity(
        "Direction",
        "cos",
        1,
        2,
        "higher",
        "Cosine between planned and recorded displacement: 1 is the same direction, 0 is chance. Steps on which one of "
        "them is shorter than 5 mm are left out.",
    ),
    "energy": Quantity(
        "Energy",
        "",
        1,
        4,
        "lower",
        "Mean absolute difference between the tokens that the model predicts for these actions and the goal's.",
    ),
}
STEP_QUANTITIES = {
    "rank_of_recorded": Quantity(
        "Rank of recorded",
        "%",
        100,
        0,
        "lower",
        "Share of random actions to which the model gives less energy than to what the robot did: 0 % is best, 50 % is "
        "chance.",
    ),
    "monotonicity": Quantity(
        "Monotonicity",
        "",
        1,
        2,
        "higher",
        "Minus the rank correlation of time and energy to the episode's last frame: 1 is a steady fall.",
    ),
    "falling_share": Quantity(
        "Falling steps",
        "%",
        100,
        0,
        "higher",
        "Share of steps at which the energy to the last frame falls.",
    ),
    "surprise": Quantity(
        "Surprise",
        "",
        1,
        4,
        "lower",
        "Distance between the frame that the model predicts for the recorded action and the frame that came; compare "
        "it with predicting that nothing changes.",
    ),
}

PLAN_MS = Quantity(
    "Search time", "ms", 1, 0, "lower", "Time of the search, as the planner reports it."
)
KNOWN = QUANTITIES | STEP_QUANTITIES | {"plan_ms": PLAN_MS}

POLICY_NAMES = {
    PLAN: "Plan",
    baselines.DO_NOTHING: "Do nothing",
    baselines.CONSTANT_VELOCITY: "Constant velocity",
    baselines.RANDOM: "Random",
    baselines.ORACLE: "Recorded, within the limits",
}
POLICY_MEANINGS = {
    baselines.DO_NOTHING: "Hold still.",
    baselines.CONSTANT_VELOCITY: "Repeat the recorded motion of the period before.",
    baselines.RANDOM: "Uniform draws from the planner's box.",
    baselines.ORACLE: "What the robot did, clipped to the planner's box: no plan of this box can do better.",
}
POLICY_COLOURS = {
    baselines.DO_NOTHING: "still",
    baselines.CONSTANT_VELOCITY: "velocity",
    baselines.RANDOM: "random",
    baselines.ORACLE: "oracle",
}
RUN_COLOURS = ("run0", "run1", "run2", "run3")
SERIES = (*RUN_COLOURS, "recorded", *POLICY_COLOURS.values())


def run_colour(index: int) -> str:
    """Return the colour of the n-th planner of a report."""
    return RUN_COLOURS[index % len(RUN_COLOURS)]


def count(number: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number} {noun}" if number == 1 else f"{number:,} {noun}s".replace(",", "\u202f")
