"""From planned closedness to gripper intents, with persistence and a dead band.

A plan speaks of the closedness that will be *measured*; an object stops the fingers before. So a
wish to close becomes "grasp with force", a wish to open "open", and neither follows a single plan.
"""

from robot_client.tasks import GripperAction

_DEAD_BAND = 0.1
_PERSISTENCE = 2


class GripperRule:
    """Decides when a planned gripper motion is meant."""

    def __init__(self) -> None:
        self._wish: GripperAction = "hold"
        self._count = 0
        self._done: GripperAction = "hold"

    def follow(self, closedness: float, planned_change: float) -> GripperAction:
        """Note one plan.

        Args:
            closedness: Measured, 0 open to 1 closed.
            planned_change: The plan's change of closedness over the next step.

        Returns:
            What to do now, once per change of mind; "hold" when nothing is to be done.
        """
        wish: GripperAction = "hold"
        if abs(planned_change) > _DEAD_BAND:
            wish = "close" if planned_change > 0 else "open"
        if wish == "open" and closedness < _DEAD_BAND:
            wish = "hold"  # open already
        self._count = self._count + 1 if wish == self._wish else 1
        self._wish = wish
        if wish == "hold" or wish == self._done or self._count < _PERSISTENCE:
            return "hold"
        self._done = wish
        return wish
