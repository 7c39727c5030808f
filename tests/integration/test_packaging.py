"""What the wheel promises: dependencies are declared and explained, and what lacks is said in words."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

tomllib = pytest.importorskip("tomllib")  # not yet part of Python 3.10

REPOSITORY = Path(__file__).parents[2]
OURS = ("models", "planner_server", "robot_client", "simulation", "training", "trajectories")

#: Brought along by a declared package that cannot do without: fastapi, timm.
BROUGHT_ALONG = {"starlette", "torchvision"}
#: Asked for by name only when a recipe, a setting or a camera wants them; each says so where it is missing.
ON_DEMAND = {"lpips", "pyzed", "torchao", "wandb"}

WITHOUT = """
import runpy, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
sys.argv = {arguments!r}
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""


def project() -> dict[str, Any]:
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        found: dict[str, Any] = tomllib.load(file)["project"]
    return found


def distribution(requirement: str) -> str:
    """`psycopg[binary]>=3.1` is psycopg; names are compared as package indices compare them."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=;\s]", requirement)[0]).lower()


def declared() -> set[str]:
    extras = project()["optional-dependencies"].values()
    lines = [*project()["dependencies"], *(line for extra in extras for line in extra)]
    return {distribution(line) for line in lines} - {project()["name"]}


def imported() -> Iterator[tuple[str, Path]]:
    for path in (path for package in OURS for path in (REPOSITORY / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and top not in (*OURS, "benchmarks"):
                    yield top, path


def test_every_package_that_is_imported_is_declared() -> None:
    names = {"rerun": ["rerun-sdk"], **packages_distributions()}  # installed by few
    undeclared = {
        (top, str(path.relative_to(REPOSITORY)))
        for top, path in imported()
        if top not in BROUGHT_ALONG | ON_DEMAND
        and not {distribution(name) for name in names.get(top, [top])} & declared()
    }
    assert undeclared == set()


def test_every_dependency_is_explained_and_nothing_else_is() -> None:
    page = (REPOSITORY / "docs" / "dependencies.md").read_text(encoding="utf-8")
    page = page.partition("\n## ")[0]
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| ")]
    explained = {distribution(name.strip()) for row in rows[1:] for name in row.split(",")}
    assert explained == declared()


@pytest.mark.parametrize(
    ("module", "absent", "extra", "arguments"),
    [
        ("robot_client", "franky", "client", ["--version"]),
        (
            "robot_client",
            "pyarrow",
            "data",
            ["run", "--task", "configs/tasks/reach.yaml", "--arm", "dummy", "--lerobot", "x"],
        ),
        ("planner_server", "zmq", "server", ["--version"]),
        ("planner_server.replay", "torch", "server", ["--help"]),
        ("models", "torch", "train", ["--help"]),
        ("training", "torch", "train", ["--help"]),
        ("simulation", "mujoco", "sim", ["show", "--output", "x.png"]),
        ("trajectories", "fsspec", "data", ["info", "hf://datasets/nobody/nothing"]),
    ],
)
def test_a_command_whose_extra_is_not_installed_names_it(
    module: str, absent: str, extra: str, arguments: list[str]
) -> None:
    program = WITHOUT.format(absent=absent, module=module, arguments=[module, *arguments])
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        cwd=REPOSITORY,
    )
    assert done.returncode in (1, 2)
    assert done.stderr.startswith(f"error: No module named '{absent}")
    assert re.search(rf"pip install 'vjepa-planner\[[a-z,]*\b{extra}\b", done.stderr)
    assert "Traceback" not in done.stderr
