"""Errors of the package; every message says what to change."""


class TrainingError(Exception):
    """Base of everything `training` raises on purpose."""


class ConfigurationError(TrainingError):
    """A training configuration cannot be used as it stands."""


class DataError(TrainingError):
    """A data set is empty, or too much of it cannot be read."""


class ResumeError(TrainingError):
    """A run cannot be continued from its checkpoints."""


class DivergedError(TrainingError):
    """The loss stopped being a number; nothing was saved from the bad step."""


class CorruptLatentsError(TrainingError):
    """A cache of encoded frames is damaged, empty or no cache."""


class LatentsMismatchError(TrainingError):
    """A cache of encoded frames was made from another encoder, geometry or data set."""
