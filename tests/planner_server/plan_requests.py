"""A plan request as the service makes one, for tests that ask without a session."""

import time
from typing import Any

import numpy as np

from planner_server.goals import SubGoal
from planner_server.options import PlanOptions
from planner_server.plan_request import PlanRequest


def plan_request(
    frame: Any, pose: list[float], goal: SubGoal, planner: str, **changes: Any
) -> PlanRequest:
    """Ask `planner` for one action from a frame and a pose towards a goal, with ten seconds to go."""
    fields: dict[str, Any] = {
        "read_frame": lambda: frame,
        "state": np.array(pose),
        "goal": goal,
        "options": PlanOptions(),
        "planner_name": planner,
        "max_step": (0.15,) * 3 + (0.0,) * 3 + (1.0,),
        "horizon": 1,
        "seed": 0,
        "received_s": time.monotonic(),
        "patience_ms": 10_000.0,
        "is_limited": False,
        "name": "test",
    }
    return PlanRequest(**(fields | changes))
