"""Whether a reply is for what this robot asked, and still true of where it stands."""

from dataclasses import dataclass

from robot_client.protocol import Act
from robot_client.safety.finding import Finding
from robot_client.safety.limits import SafetyLimits


@dataclass(frozen=True)
class Asked:
    """What the robot asked and when, to hold a reply against.

    Attributes:
        session: This robot's session.
        seq: Sequence number of its newest observation.
        goal_index: Goal it asked for.
        age_s: Time since that observation's capture [s].
        drift_m: How far the flange is from where the observation said it is [m].
        executed_seq: The newest plan that was executed already; -1 before the first.
    """

    session: str
    seq: int
    goal_index: int
    age_s: float
    drift_m: float
    executed_seq: int = -1


def check_reply(act: Act, asked: Asked, limits: SafetyLimits) -> Finding | None:
    """Hold a reply against what was asked.

    Returns:
        Why it must not be followed: of a foreign session, a duplicate, out of order, for another
        goal, too old, or from where the arm no longer stands; None where it may.
    """
    checks = (_check_addressee(act, asked), _check_order(act, asked), _check_age(asked, limits))
    return next((finding for finding in checks if finding is not None), None)


def _check_addressee(act: Act, asked: Asked) -> Finding | None:
    if act.session != asked.session:
        text = f"the plan is for session {act.session!r}, this robot is {asked.session!r}"
        return Finding("foreign session", "refused", text)
    if act.goal_index != asked.goal_index:
        text = f"the plan is for goal {act.goal_index}, goal {asked.goal_index} was asked for"
        return Finding("other goal", "refused", text, act.goal_index, asked.goal_index)
    return None


def _check_order(act: Act, asked: Asked) -> Finding | None:
    if act.seq <= asked.executed_seq:
        text = f"the plan for observation {act.seq} was executed already"
        return Finding("duplicate", "refused", text, act.seq, asked.executed_seq)
    if act.seq != asked.seq:
        text = f"the plan answers observation {act.seq}, the newest is {asked.seq}"
        return Finding("out of order", "refused", text, act.seq, asked.seq)
    return None


def _check_age(asked: Asked, limits: SafetyLimits) -> Finding | None:
    # Written so that a value that is no number fails.
    if not asked.age_s <= limits.max_observation_age_s:
        limit_s = limits.max_observation_age_s
        text = f"the observation is {asked.age_s:.1f} s old, at most {limit_s:.1f} s are allowed"
        return Finding("stale", "refused", text, asked.age_s, limit_s)
    if not asked.drift_m <= limits.max_drift_m:
        limit_m = limits.max_drift_m
        text = (
            f"the flange has moved {100 * asked.drift_m:.1f} cm since the observation, at most "
            f"{100 * limit_m:.1f} cm are allowed"
        )
        return Finding("moved", "refused", text, asked.drift_m, limit_m)
    return None
