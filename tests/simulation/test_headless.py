import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from simulation import headless

REPOSITORY = Path(__file__).resolve().parents[2]


def run_alone(script, environment):
    """Run a script in an interpreter of its own, which has not imported MuJoCo."""
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("chosen", "expected"), [("glfw", {"glfw"}), (None, {"egl", "osmesa"})])
def test_importing_the_package_picks_a_headless_back_end_unless_one_is_chosen(chosen, expected):
    environment = {k: v for k, v in os.environ.items() if k != "MUJOCO_GL"}
    if chosen is not None:
        environment["MUJOCO_GL"] = chosen
    script = "import os, simulation; print(os.environ.get('MUJOCO_GL'))"
    found = run_alone(script, environment)
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() in expected


@pytest.mark.parametrize(
    ("libraries", "expected"),
    [
        ({"egl": ("libc.so.6",), "osmesa": ("libc.so.6",)}, "egl"),
        ({"egl": ("libnot-here.so",), "osmesa": ("libnot-here.so", "libc.so.6")}, "osmesa"),
        ({"egl": ("libnot-here.so",), "osmesa": ("libnot-here.so",)}, None),
    ],
)
def test_the_first_back_end_whose_library_loads_is_taken(monkeypatch, libraries, expected):
    monkeypatch.setattr(headless, "_CANDIDATES", tuple(libraries.items()))
    monkeypatch.delitem(sys.modules, "mujoco", raising=False)
    monkeypatch.setenv("MUJOCO_GL", "")  # as good as unset, and put back afterwards
    assert headless.select_gl_backend() == expected
    assert (os.environ["MUJOCO_GL"] or None) == expected


def test_a_machine_without_opengl_is_told_what_to_install():
    script = "import mujoco, simulation.rendering as r; mujoco.GLContext = 0; r.FrameRenderer()"
    environment = {**os.environ, "MUJOCO_GL": "egl"}
    found = run_alone(script, environment)
    assert found.returncode == 1
    assert re.search(r"RenderingError: .*MUJOCO_GL=egl .*install libegl1", found.stderr)
