"""Bodies of the routes that take images, as they may come: a file, a form, or JSON. Nothing is decoded here."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from fastapi import Request
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException  # what a form raises; FastAPI's own is a kind of it

from planner_server.errors import PlannerError
from planner_server.goals import GoalRules
from planner_server.planning.goal import POSE_DIM
from planner_server.questions import EpisodeFrame, GoalJson, GoalOfForm, GoalsJson
from robot_client import fields
from robot_client.errors import ProtocolError
from robot_client.protocol import MAX_GOALS

Body = TypeVar("Body", bound=BaseModel)
FORM, JSON = "multipart/form-data", "application/json"

_MAX_FILES = 64
_MAX_FIELDS = 64


@dataclass(frozen=True, eq=False)
class GoalDraft:
    """A goal as it arrived: files, or names of recorded frames, not looked into yet."""

    images: tuple[bytes | EpisodeFrame, ...]
    rules: GoalRules
    mask: bytes | None = None


async def read_goals(request: Request) -> list[GoalDraft]:
    """Read goals from one image (the body itself), a form, or JSON.

    Raises:
        PlannerError: `unsupported_media_type`, `invalid_request` or `invalid_frame`.
    """
    kind = media_type(request)
    if kind == FORM:
        async with _Form(request) as form:
            return await _goals_of_form(form)
    if kind == JSON:
        body = validate(GoalsJson, parse_json(await request.body(), "body"))
        return [_goal_of_json(goal, index) for index, goal in enumerate(body.goals)]
    if kind.startswith("image/") or kind == "application/octet-stream":
        rules = validate(GoalRules, dict(request.query_params))
        return [GoalDraft((await request.body(),), rules)]
    raise PlannerError(
        "unsupported_media_type",
        f"Content-Type is {kind[:64]!r}; send one image as image/png, image/jpeg or image/webp, "
        "several as multipart/form-data in the field `images`, or application/json",
    )


async def read_body(
    request: Request, model: type[Body], images: Sequence[str]
) -> tuple[Body, dict[str, bytes]]:
    """Read a question with images from JSON (base64) or from a form (files; the other fields as text or JSON).

    Args:
        request: The request.
        model: What its JSON must look like.
        images: Fields that are images.

    Returns:
        The question, its images replaced by their names, and the images' files by name.

    Raises:
        PlannerError: `unsupported_media_type`, `invalid_request`, `invalid_state` or `invalid_frame`.
    """
    kind = media_type(request)
    if kind == FORM:
        async with _Form(request) as form:
            files = {name: (await _files(form, name, 1))[0] for name in images}
            values = {name: _field(name, form[name]) for name in form if name not in images}
        values.update(dict.fromkeys(images, "a file of the form"))
    elif kind == JSON:
        values = parse_json(await request.body(), "body")
        files = {}
    else:
        raise PlannerError(
            "unsupported_media_type",
            f"Content-Type is {kind[:64]!r}; send multipart/form-data or application/json",
        )
    body = validate(model, values)
    parse_state(getattr(body, "state", None))  # before the images, which take longer
    for name in images:
        if name not in files:
            files[name] = unbase64(getattr(body, name), name)
    return body, files


def parse_state(values: Any) -> NDArray[np.float64]:
    """Return the pose `[7]` that a list of numbers stands for.

    Raises:
        PlannerError: `invalid_state`.
    """
    is_numbers = isinstance(values, list) and all(
        isinstance(value, (int, float)) and not isinstance(value, bool) for value in values
    )
    wanted = "send 7 numbers: x y z [m], roll pitch yaw [rad], gripper closedness 0 to 1"
    if not is_numbers or len(values) != POSE_DIM:
        got = f"{len(values)} numbers" if is_numbers else repr(values)[:80]
        raise PlannerError("invalid_state", f"state is {got}; {wanted}")
    try:
        return fields.state("state", np.array(values, dtype=np.float64))
    except (ProtocolError, OverflowError) as error:
        text = error.message if isinstance(error, ProtocolError) else str(error)
        raise PlannerError("invalid_state", f"{text}; {wanted}") from error


def parse_actions(rows: Sequence[Sequence[Sequence[float]]]) -> NDArray[np.float64]:
    """Return sequences of actions `[S, H, 7]`.

    Raises:
        PlannerError: `invalid_request`.
    """
    lengths = {len(sequence) for sequence in rows}
    sizes = {len(action) for sequence in rows for action in sequence}
    if len(lengths) != 1 or sizes != {POSE_DIM} or not 1 <= min(lengths) <= fields.MAX_HORIZON:
        raise PlannerError(
            "invalid_request",
            f"actions have {sorted(lengths)[:5]} steps of {sorted(sizes)[:5]} numbers; all sequences must have the "
            f"same 1 to {fields.MAX_HORIZON} steps of 7 numbers",
        )
    actions = np.array(rows, dtype=np.float64)
    if not np.isfinite(actions).all() or np.abs(actions).max() > fields.MAX_ACTION:
        raise PlannerError(
            "invalid_request", f"actions must be finite numbers within {fields.MAX_ACTION:g}"
        )
    return actions


def describe(problems: Sequence[Any]) -> str:
    """Put pydantic's list of problems into one line."""
    lines = (
        f"{'.'.join(map(str, problem['loc'])) or 'body'}: {problem['msg']}" for problem in problems
    )
    return "; ".join(lines)[:1000]


def validate(kind: type[Body], values: Any) -> Body:
    """Check values against a model.

    Raises:
        PlannerError: `invalid_request`.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = error.errors()
        if problems[0]["loc"][:1] == ("state",) and isinstance(values, dict):
            parse_state(values.get("state"))  # says it in words that help more
        raise PlannerError("invalid_request", describe(problems)) from error


def parse_json(text: str | bytes, name: str) -> Any:
    """Parse JSON from the network.

    Raises:
        PlannerError: `invalid_request`, or `invalid_state` where `name` is the state.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        code = "invalid_state" if "state" in name else "invalid_request"
        raise PlannerError(code, f"{name} is not JSON: {str(error)[:200]}") from error


def unbase64(text: str, name: str) -> bytes:
    """Decode base64.

    Raises:
        PlannerError: `invalid_frame`.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise PlannerError("invalid_frame", f"{name} is not base64: {error}") from error


def media_type(request: Request) -> str:
    """Return the body's type without parameters."""
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


class _Form:
    """A multipart form as a context manager whose parsing errors are ours, and whose files are closed."""

    def __init__(self, request: Request) -> None:
        self._context = request.form(max_files=_MAX_FILES, max_fields=_MAX_FIELDS)

    async def __aenter__(self) -> FormData:
        try:
            return await self._context.__aenter__()
        except HTTPException as error:
            raise PlannerError(
                "invalid_request",
                f"the form cannot be read: {error.detail}; at most {_MAX_FILES} images",
            ) from error

    async def __aexit__(self, *exception: object) -> None:
        await self._context.__aexit__(None, None, None)


async def _goals_of_form(form: FormData) -> list[GoalDraft]:
    """Return one goal per image, or what the field `goals` says about the images."""
    unknown = sorted(set(form) - {"images", "goals"})
    if unknown:
        raise PlannerError(
            "invalid_request", f"form field {unknown[0][:64]!r} is unknown; allowed: images, goals"
        )
    files = await _files(form, "images", _MAX_FILES)
    if "goals" not in form:
        if len(files) > MAX_GOALS:
            raise PlannerError(
                "invalid_request", f"{len(files)} images are as many goals; at most {MAX_GOALS}"
            )
        return [GoalDraft((file,), GoalRules()) for file in files]
    entries = parse_json(str(form["goals"]), "form field `goals`")
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_GOALS:
        raise PlannerError(
            "invalid_request", f"form field `goals` must be a list of 1 to {MAX_GOALS} goals"
        )
    return [_goal_of_form(validate(GoalOfForm, entry), files) for entry in entries]


def _goal_of_form(entry: GoalOfForm, files: Sequence[bytes]) -> GoalDraft:
    wanted = [*entry.images, *([] if entry.mask is None else [entry.mask])]
    if max(wanted) >= len(files):
        raise PlannerError(
            "invalid_request",
            f"a goal names image {max(wanted)}, but the form has {len(files)} (counted from 0)",
        )
    mask = None if entry.mask is None else files[entry.mask]
    return GoalDraft(tuple(files[index] for index in entry.images), _rules_of(entry), mask)


def _goal_of_json(goal: GoalJson, index: int) -> GoalDraft:
    images = tuple(
        unbase64(image, f"goal {index}") if isinstance(image, str) else image
        for image in goal.images
    )
    mask = None if goal.mask is None else unbase64(goal.mask, f"mask of goal {index}")
    return GoalDraft(images, _rules_of(goal), mask)


def _rules_of(goal: GoalRules) -> GoalRules:
    return GoalRules(**{name: getattr(goal, name) for name in GoalRules.model_fields})


async def _files(form: FormData, name: str, most: int) -> list[bytes]:
    files = form.getlist(name)
    if not 1 <= len(files) <= most or not all(isinstance(file, UploadFile) for file in files):
        expected = "one file" if most == 1 else f"1 to {most} files"
        present = ", ".join(sorted(set(form))) or "nothing"
        raise PlannerError(
            "invalid_request",
            f"form field `{name}` must hold {expected}, got {len(files)} value(s); the form has {present}",
        )
    return [await file.read() for file in files if isinstance(file, UploadFile)]


def _field(name: str, value: Any) -> Any:
    """Return a form field as JSON would have it: lists and maps are written as JSON, the rest as text."""
    if not isinstance(value, str):
        raise PlannerError("invalid_request", f"form field `{name[:64]}` must be text, not a file")
    if name == "state" or value[:1] in ("[", "{"):
        return parse_json(value, f"form field `{name[:64]}`")
    return value
