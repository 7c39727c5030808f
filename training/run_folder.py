"""The folder of a run: its recipe, what made it, its logs, its checkpoints and its model.

recipe.yaml            the recipe with every default spelt out
launches.jsonl         every start: commit, command, machine, versions
log.csv, log.jsonl     what was measured (see `training.log`)
checkpoints/           what the run continues from (see `training.checkpoints`)
best/                  the model that validated best
config.json, ...       the finished model: the folder is a model folder (`models.checkpoint`)
report.html            made by `python -m training report`
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

import torch
import yaml

from models.model_folder import replace_file
from training.config import TrainingRecipe, changed_keys, dump_recipe
from training.distributed import World
from training.errors import ConfigurationError, ResumeError
from training.log import whole_lines

RECIPE_FILE: Final = "recipe.yaml"
LAUNCHES_FILE: Final = "launches.jsonl"
# How it runs, and where data and caches lie: they are moved to where the next machine reads them faster.
_FREE_TO_CHANGE = re.compile(r"run\.|(.*\.)?((latents|cache|videos)_)?path$")
_PACKAGES = ("torch", "torchvision", "numpy", "timm", "safetensors", "pydantic")


class RunFolder:
    """One run's folder; use `open_run_folder`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints live."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """Where the model that validated best lives."""
        return self.path / "best"


def open_run_folder(path: Path, command: str, recipe: TrainingRecipe, world: World) -> RunFolder:
    """Make a run folder, or open the one that this run left when it was interrupted.

    Args:
        path: The folder.
        command: Which training: `pretrain`, `posttrain`, ...
        recipe: Its recipe. Of an interrupted run, only what is below `run`, and paths, may
            have changed.
        world: The processes; the first one writes.

    Raises:
        ResumeError: The folder belongs to a run with another recipe.
        ConfigurationError: The recipe in the folder cannot be read, or no folder can be there.
    """
    content = {"training": command, **recipe.model_dump(mode="json")}
    known = _read(path / RECIPE_FILE)
    folder = RunFolder(path)
    if known is not None and any(folder.checkpoints.glob("step-*")):
        changed = [key for key in changed_keys(known, content) if not _FREE_TO_CHANGE.match(key)]
        if changed:
            raise ResumeError(
                f"{path} holds a run with another recipe: {', '.join(changed)} changed; write to "
                "another folder, or remove its checkpoints to start again"
            )
    world.barrier()  # nobody writes while others still read
    if world.is_main:
        _make(folder.checkpoints)
        text = f"training: {command}\n" + dump_recipe(recipe)
        replace_file(path / RECIPE_FILE, lambda p: p.write_text(text, encoding="utf-8"))
        launches = [*whole_lines(path / LAUNCHES_FILE), json.dumps(describe_launch(world)) + "\n"]
        replace_file(
            path / LAUNCHES_FILE, lambda p: p.write_text("".join(launches), encoding="utf-8")
        )
    world.barrier()
    return folder


def read_run(path: Path) -> tuple[str, dict[str, Any]]:
    """Return which training a run folder belongs to, and its recipe.

    Raises:
        ConfigurationError: It is no run folder.
    """
    content = _read(path / RECIPE_FILE)
    if content is None or "training" not in content:
        raise ConfigurationError(f"{path} has no {RECIPE_FILE}; is it the output of a training?")
    return content.pop("training"), content


def describe_launch(world: World) -> dict[str, Any]:
    """Describe the code, the command and the machine of this process."""
    return {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": sys.argv,
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "host": platform.node(),
        "python": platform.python_version(),
        "processes": world.size,
        "device": _device_name(world.device),
        "threads": torch.get_num_threads(),
        "environment": {
            key: value
            for key, value in os.environ.items()
            if key.startswith(("SLURM_JOB_", "OMP_", "NCCL_", "TORCH_", "CUDA_VISIBLE"))
        },
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{folder} cannot be made ({error}); write elsewhere") from error


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is damaged ({error}); write to another folder") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} holds no recipe; write to another folder")
    return content


def _git(*arguments: str) -> str | None:
    """Ask git about the code that is running; None where it is no checkout."""
    try:
        answer = subprocess.run(
            ["git", *arguments],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
