"""What replay itself refuses."""

from __future__ import annotations

from trajectories.errors import TrajectoryError


class ReplayError(TrajectoryError):
    """A replay, its files or a comparison cannot be made as asked."""
