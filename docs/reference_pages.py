"""Reference pages made from the code, so that they cannot disagree with it.

`docs/site_hooks.py` adds them to the site; `python docs/reference_pages.py configuration` prints one.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_CONFIGURATIONS = (
    ("Server", "planner_server.settings", "Settings", "`PLANNER_CONFIG`, `configs/server/*.yaml`"),
    ("Task", "robot_client.tasks", "Task", "`robot-client run --task`, `configs/tasks/*.yaml`"),
    ("Camera", "robot_client.cameras.settings", "CameraSettings", "`--camera-settings`"),
    ("Training data", "simulation.recipe", "Recipe", "`configs/simulation/*.yaml`"),
    ("Pretraining", "training.pretrain_config", "PretrainConfig", "`python -m training pretrain`"),
    ("Post-training", "training.posttrain_config", "PosttrainConfig", "`... posttrain`"),
    ("Pixel decoder", "training.decoder", "DecoderTrainingConfig", "`... decoder`"),
)
_COMMANDS = (
    ("robot-client", "robot_client.cli"),
    ("python -m planner_server", "planner_server.__main__"),
    ("python -m planner_server.replay", "planner_server.replay.__main__"),
    ("python -m models", "models.__main__"),
    ("python -m trajectories", "trajectories.__main__"),
    ("python -m simulation", "simulation.__main__"),
    ("python -m training", "training.__main__"),
)
_COLUMNS = 100
_ATTRIBUTE = re.compile(r"^ {4,8}(\w+): (.+)$")


def configuration() -> str:
    """Every key of every YAML file: type, default, meaning."""
    intro = (
        "# Configuration\n\nWritten in YAML, checked before anything starts: an unknown key, a wrong type or a value "
        "out of range is an error that names it. `-` marks a key without a default.\n"
    )
    parts = [intro]
    for title, module, name, where in _CONFIGURATIONS:
        model = getattr(importlib.import_module(module), name)
        parts.append(f"\n## {title}\n\n{_summary(model)} {where}\n\n{_table(model)}\n")
    return "".join(parts)


def commands() -> str:
    """The help of every command and its sub-commands."""
    os.environ["COLUMNS"] = str(_COLUMNS)  # argparse wraps to the terminal's width otherwise
    parts = ["# Command lines\n\nEach command prints this by `--help`.\n"]
    for title, module in _COMMANDS:
        parser = importlib.import_module(module)._parser()
        parts.append(f"\n## {title}\n\n```\n{parser.format_help().rstrip()}\n```\n")
        parts += [
            f"\n### {name}\n\n```\n{command.format_help().rstrip()}\n```\n"
            for name, command in _subcommands(parser)
        ]
    return "".join(parts)


def routes() -> str:
    """Every HTTP route with its role and meaning, from the OpenAPI description."""
    from planner_server.app import create_app
    from planner_server.settings import Settings

    description = create_app(Settings()).openapi()
    rows = ["| route | what it does |\n|---|---|\n"]
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            text = operation.get("description") or operation.get("summary", "")
            rows.append(f"| `{method.upper()} {path}` | {_cell(text.split(chr(10) * 2)[0])} |\n")
    return (
        "# Routes\n\nOf the running server, with schemas and examples: `/docs` and `/openapi.json`. "
        f"How to use them: [HTTP API](../api.md).\n\n{''.join(rows)}"
    )


PAGES: dict[str, Callable[[], str]] = {
    "configuration": configuration,
    "commands": commands,
    "routes": routes,
}


def _table(model: type[BaseModel]) -> str:
    rows = [
        f"| `{path}` | {kind} | {default} | {text} |" for path, kind, default, text in _rows(model)
    ]
    return "\n".join(["| key | type | default | meaning |", "|---|---|---|---|", *rows])


def _rows(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    told = _attributes(model)
    for name, field in model.model_fields.items():
        kind = getattr(field.annotation, "__name__", str(field.annotation))
        kind = kind if not get_args(field.annotation) else str(field.annotation)
        text = field.description or told.get(name, "")
        yield f"{prefix}{name}", f"`{_short(kind)}`", _default(field), _cell(text)
        for nested in _nested(field.annotation):
            yield from _rows(nested, f"{prefix}{name}.")


def _nested(annotation: Any) -> list[type[BaseModel]]:
    """Return the models inside an annotation, through unions and containers."""
    if arguments := get_args(annotation):  # Python 3.10 takes list[int] for a class
        return [model for argument in arguments for model in _nested(argument)]
    return [annotation] if inspect.isclass(annotation) and issubclass(annotation, BaseModel) else []


def _attributes(model: type[BaseModel]) -> dict[str, str]:
    """Return what the "Attributes:" of a model and its bases say of each field."""
    told: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        name, section = "", False
        for line in (kind.__doc__ or "").splitlines():
            match = _ATTRIBUTE.match(line) if section else None
            section = section or line.strip() == "Attributes:"
            if match:
                name, told[match[1]] = match[1], match[2]
            elif section and name and line.strip():
                told[name] += " " + line.strip()
    return told


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "-"
    value = field.get_default(call_default_factory=True, validated_data={})
    text = str(value) if not isinstance(value, BaseModel) else ""
    return f"`{_cell(text.replace(f'{Path.cwd()}/', ''))}`" if text else ""


def _short(kind: str) -> str:
    plain = re.sub(r"\b(?:[a-z_]+\.)+(?=[A-Z])|typing\.|<class '|'>", "", kind)
    plain = re.sub(r"Annotated\[(\w+), .*?\](?=[,\]]|$)", r"\1", plain)
    return _cell(plain.replace("NoneType", "None"))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _summary(model: type[BaseModel]) -> str:
    return (inspect.getdoc(model) or "").split("\n\n")[0].replace("\n", " ")


def _subcommands(
    parser: argparse.ArgumentParser, prefix: str = ""
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield f"{prefix}{name}", command
                yield from _subcommands(command, f"{prefix}{name} ")


if __name__ == "__main__":
    sys.stdout.write(PAGES[sys.argv[1]]())
