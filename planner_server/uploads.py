"""Bodies of the two routes that take images, in every form they may come: a file, a form, or JSON."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from fastapi import HTTPException, Request
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException

from planner_server.errors import PlannerError
from planner_server.images import decode_image
from planner_server.plan_request import Frame
from planner_server.planning.problem import POSE_DIM
from planner_server.schemas import PlanJson
from planner_server.service import SinglePlan
from planner_server.sessions import PlanOptions
from robot_client import fields
from robot_client.errors import ProtocolError
from robot_client.protocol import MAX_GOALS

Body = TypeVar("Body", bound=BaseModel)

_OPTION_FIELDS = tuple(PlanOptions.model_fields)
_PLAN_FIELDS = ("frame", "goal", "state", *_OPTION_FIELDS)


async def read_goals(request: Request) -> list[Frame]:
    """Read one image (the body itself) or 1 to 16 images (form field `images`, in order).

    Raises:
        PlannerError: `unsupported_media_type`, `invalid_request` or `invalid_frame`.
    """
    kind = _media_type(request)
    if kind == "multipart/form-data":
        async with _Form(request) as form:
            files = await _files(form, "images")
    elif kind.startswith("image/") or kind == "application/octet-stream":
        files = [await request.body()]
    else:
        raise PlannerError(
            "unsupported_media_type",
            f"Content-Type is {kind[:64]!r}; send one image as image/png, image/jpeg or image/webp, "
            "or several as multipart/form-data in the field `images`",
        )
    return [await _decode(data, f"goal {index}") for index, data in enumerate(files)]


async def read_plan(request: Request) -> SinglePlan:
    """Read frame, goal, state and options from a form or from JSON.

    Raises:
        PlannerError: `unsupported_media_type`, `invalid_request`, `invalid_frame` or `invalid_state`.
    """
    kind = _media_type(request)
    if kind == "multipart/form-data":
        async with _Form(request) as form:
            _refuse_unknown(form)
            (frame,), (goal,) = await _files(form, "frame", 1), await _files(form, "goal", 1)
            state = _parse_json(str(form.get("state", "")), "form field `state`")
            options = _form_options(form)
    elif kind == "application/json":
        body = _validate(PlanJson, _parse_json(await request.body(), "body"))
        frame, goal = _unbase64(body.frame, "frame"), _unbase64(body.goal, "goal")
        state = body.state
        options = PlanOptions(**{name: getattr(body, name) for name in _OPTION_FIELDS})
    else:
        raise PlannerError(
            "unsupported_media_type",
            f"Content-Type is {kind[:64]!r}; send multipart/form-data or application/json",
        )
    pose = parse_state(state)
    return SinglePlan(await _decode(frame, "frame"), await _decode(goal, "goal"), pose, options)


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


class _Form:
    """A multipart form as a context manager whose parsing errors are ours, and whose files are closed."""

    def __init__(self, request: Request) -> None:
        self._context = request.form(max_files=MAX_GOALS + 2, max_fields=len(_PLAN_FIELDS) + 2)

    async def __aenter__(self) -> FormData:
        try:
            return await self._context.__aenter__()
        except (MultiPartException, HTTPException) as error:
            reason = error.message if isinstance(error, MultiPartException) else error.detail
            raise PlannerError(
                "invalid_request", f"the form cannot be read: {reason}; at most {MAX_GOALS} images"
            ) from error

    async def __aexit__(self, *exception: object) -> None:
        await self._context.__aexit__(None, None, None)


async def _files(form: FormData, name: str, most: int = MAX_GOALS) -> list[bytes]:
    files = form.getlist(name)
    if not 1 <= len(files) <= most or not all(isinstance(file, UploadFile) for file in files):
        expected = "one file" if most == 1 else f"1 to {most} files"
        present = ", ".join(sorted(set(form))) or "nothing"
        raise PlannerError(
            "invalid_request",
            f"form field `{name}` must hold {expected}, got {len(files)} value(s); the form has {present}",
        )
    return [await file.read() for file in files if isinstance(file, UploadFile)]


def _refuse_unknown(form: FormData) -> None:
    unknown = sorted(set(form) - set(_PLAN_FIELDS))
    if unknown:
        raise PlannerError(
            "invalid_request",
            f"form field {unknown[0][:64]!r} is unknown; allowed: {', '.join(_PLAN_FIELDS)}",
        )


def _form_options(form: FormData) -> PlanOptions:
    return _validate(PlanOptions, {name: form[name] for name in _OPTION_FIELDS if name in form})


def _validate(kind: type[Body], values: Any) -> Body:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise PlannerError("invalid_request", describe(error.errors())) from error


def describe(problems: Sequence[Any]) -> str:
    """Put pydantic's list of problems into one line."""
    lines = (
        f"{'.'.join(map(str, problem['loc'])) or 'body'}: {problem['msg']}" for problem in problems
    )
    return "; ".join(lines)[:1000]


def _parse_json(text: str | bytes, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        code = "invalid_state" if "state" in name else "invalid_request"
        raise PlannerError(code, f"{name} is not JSON: {str(error)[:200]}") from error


def _unbase64(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise PlannerError("invalid_frame", f"{name} is not base64: {error}") from error


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").split(";")[0].strip().lower()


async def _decode(data: bytes, name: str) -> Frame:
    """Decode off the event loop: a large image takes a tenth of a second."""
    return await asyncio.to_thread(decode_image, data, name)
