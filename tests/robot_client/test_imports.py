"""The robot's machine carries no torch, no web framework and no physics."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

PROGRAM = """
import importlib, pkgutil, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ImportError(f"{{name}} must not be needed on the robot's machine")

sys.meta_path.insert(0, Blocked())
import robot_client
for module in pkgutil.walk_packages(robot_client.__path__, "robot_client."):
    if module.name != "robot_client.__main__":
        importlib.import_module(module.name)
"""
BLOCKED = {"torch", "fastapi", "uvicorn", "mujoco", "franky_sim", "models", "planner_server"}
BLOCKED |= {"simulation", "training", "matplotlib", "pinocchio", "httpx"}


def run(blocked: set[str]) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(blocked=sorted(blocked))
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, check=False
    )


def test_every_module_loads_without_them() -> None:
    result = run(BLOCKED)
    assert result.returncode == 0, result.stderr


def test_the_blocking_works() -> None:
    assert "must not be needed" in run({"zmq"}).stderr
