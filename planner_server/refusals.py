"""Why there is no answer, told by the error that kept it from being made."""

from __future__ import annotations

import logging

import torch

from planner_server.errors import PlannerError
from planner_server.planning import NonFiniteEnergyError, PlanningError

logger = logging.getLogger(__name__)

DEVICE_FAILED = "the device that plans has failed; see the server's log, then restart the server"


def refusal_of(name: str, error: Exception) -> PlannerError:
    """Return what whoever asked is told; what nobody expected goes to the log."""
    if isinstance(error, PlannerError):
        return error
    if isinstance(error, NonFiniteEnergyError):
        return PlannerError("planner_failed", not_finite(str(error)))
    if isinstance(error, PlanningError):
        return PlannerError("invalid_request", str(error))
    if isinstance(error, torch.OutOfMemoryError):
        return PlannerError(
            "planner_failed",
            "the device has not enough memory for a single plan; lower chunk_size or context, or free the device",
        )
    if isinstance(error, torch.AcceleratorError):
        return PlannerError("not_ready", DEVICE_FAILED)
    logger.error("%s failed", name, exc_info=error)
    return PlannerError(
        "planner_failed", "that failed unexpectedly; the server's log has the details"
    )


def not_finite(what: str) -> str:
    """Say that the model predicted no numbers."""
    return (
        f"the model predicted numbers that are not finite ({what}); "
        "check the weights, and try PLANNER_PRECISION=float32"
    )
