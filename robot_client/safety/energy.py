"""What the planner's own numbers say about whether it still knows what it is doing."""

from dataclasses import dataclass

from robot_client.safety.finding import Finding
from robot_client.safety.limits import SafetyLimits


@dataclass(frozen=True)
class EnergyWatch:
    """Counts how often in a row the energy of the observed frame has risen; a value, never changed.

    Attributes:
        energy: The newest energy; None before the first plan of a sub-goal.
        rises: So many plans in a row it has risen.
    """

    energy: float | None = None
    rises: int = 0

    def note(self, energy_now: float) -> "EnergyWatch":
        """The watch after one more plan whose observed frame has `energy_now`."""
        has_risen = self.energy is not None and energy_now > self.energy
        return EnergyWatch(energy_now, self.rises + 1 if has_risen else 0)

    def check(self, limits: SafetyLimits) -> Finding | None:
        """Why the attempt must end; None while the energy does not only rise."""
        limit = limits.max_energy_rises
        if limit is None or self.rises < limit:
            return None
        text = f"the energy has risen {self.rises} plans in a row: the arm moves away from the goal"
        return Finding("rising energy", "refused", text, self.rises, limit)


def check_surprise(surprise: float | None, limits: SafetyLimits) -> Finding | None:
    """Hold the distance of observed from predicted tokens against the limit.

    Args:
        surprise: As the server reports it for this observation; None where it reports none.
        limits: `max_surprise`.
    """
    if surprise is None or limits.max_surprise is None or surprise <= limits.max_surprise:
        return None
    text = (
        f"the frame differs from the predicted one by {surprise:.3f} (allowed: "
        f"{limits.max_surprise:.3f}): something happened that the model did not expect"
    )
    return Finding("surprise", "refused", text, surprise, limits.max_surprise)
