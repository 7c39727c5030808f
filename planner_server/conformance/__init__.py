"""Does a server keep the protocol? Checks any server over real sockets; it need not be this one."""

from planner_server.conformance.conversation import Target
from planner_server.conformance.rules import Result, run_checks

__all__ = ["Result", "Target", "run_checks"]
