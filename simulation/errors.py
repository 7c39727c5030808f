"""Errors of the simulator; every message names the offending value and what to do next."""


class SimulationError(Exception):
    """Base of everything `simulation` raises on purpose."""


class UnreachablePoseError(SimulationError):
    """Inverse kinematics found no joint configuration for a flange pose."""


class RenderingError(SimulationError):
    """No headless OpenGL context could be made."""


class OutputExistsError(SimulationError):
    """The output folder already holds something that would be overwritten."""


class NoEpisodeError(SimulationError):
    """A data set has no episode of the number that was asked for."""


class ServerStartError(SimulationError):
    """The real-time simulator could not take its ports."""


class SupervisorError(SimulationError):
    """A supervisor request was malformed or could not be carried out."""


class InvalidTaskError(SimulationError):
    """A task was asked for that does not exist or cannot be laid out."""


class UnsupportedSceneError(SimulationError):
    """franky-sim's scene lacks something the workcell builds on."""


class InvalidTargetError(SimulationError):
    """A target state or an action is not seven finite numbers."""


class InvalidRecipeError(SimulationError):
    """A recipe of training data cannot be read or is contradictory."""


class PolicyError(SimulationError):
    """A policy does not exist, could not be made, or failed."""


class ResultsError(SimulationError):
    """Evaluation results are missing, belong to something else, or cannot be shown."""
