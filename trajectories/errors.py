"""Errors of the package; every message names the file or value and what to do next."""


class TrajectoryError(Exception):
    """Base of everything `trajectories` raises on purpose."""


class CorruptDataError(TrajectoryError):
    """A data set on disk is incomplete, inconsistent or not one of ours."""


class InvalidEpisodeError(TrajectoryError):
    """An episode that was handed over has the wrong shape, type or values."""
