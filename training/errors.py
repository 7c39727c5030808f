"""Errors of the package; every message says what to change."""


class TrainingError(Exception):
    """Base of everything `training` raises on purpose."""


class ConfigurationError(TrainingError):
    """A training configuration cannot be used as it stands."""


class DivergedError(TrainingError):
    """The loss stopped being a number; nothing was saved from the bad step."""
