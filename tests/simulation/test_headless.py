import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("chosen", "expected"), [("glfw", {"glfw"}), (None, {"egl", "osmesa"})])
def test_importing_the_package_picks_a_headless_back_end_unless_one_is_chosen(chosen, expected):
    environment = {k: v for k, v in os.environ.items() if k != "MUJOCO_GL"}
    if chosen is not None:
        environment["MUJOCO_GL"] = chosen
    script = "import os, simulation; print(os.environ.get('MUJOCO_GL'))"
    found = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() in expected
