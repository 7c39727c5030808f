"""OpenAPI descriptions of bodies that come in several forms, which the framework cannot derive."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from planner_server.questions import EXAMPLE_STATE, GoalsJson

_FILE = {"type": "string", "format": "binary"}
_IMAGE = {"schema": _FILE}


def goals_body() -> dict[str, Any]:
    """Describe the upload of goals: one file, a form, or JSON."""
    return _body(
        "One image as the body, 1 to 16 form fields `images` in the order of the task, or JSON.",
        {
            "image/png": _IMAGE,
            "image/jpeg": _IMAGE,
            "image/webp": _IMAGE,
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "additionalProperties": False,
                    "properties": {
                        "images": {"type": "array", "items": _FILE, "minItems": 1, "maxItems": 64},
                        "goals": {
                            "type": "string",
                            "description": "JSON: a list of goals whose `images` are positions in the field `images`.",
                            "example": '[{"name": "above", "images": [0], "max_steps": 4}]',
                        },
                    },
                }
            },
            "application/json": {"schema": schema_of(GoalsJson)},
        },
    )


def question_body(model: type[BaseModel], images: tuple[str, ...]) -> dict[str, Any]:
    """Describe a question with images: JSON with base64, or a form with files."""
    schema = schema_of(model)
    properties = {
        name: _FILE if name in images else _field_of_form(name, described)
        for name, described in schema["properties"].items()
    }
    form = {
        "type": "object",
        "required": schema.get("required", []),
        "additionalProperties": False,
        "properties": properties,
    }
    return _body(
        "Images as files of a form, or in base64 inside JSON.",
        {"application/json": {"schema": schema}, "multipart/form-data": {"schema": form}},
    )


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return a model's JSON schema with everything that it refers to written out in its place."""
    schema = model.model_json_schema()
    parts = schema.pop("$defs", {})

    def inlined(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                name = node["$ref"].rpartition("/")[2]
                rest = {key: value for key, value in node.items() if key != "$ref"}
                return {**inlined(parts[name]), **rest}
            return {key: inlined(value) for key, value in node.items()}
        return [inlined(each) for each in node] if isinstance(node, list) else node

    resolved: dict[str, Any] = inlined(schema)
    return resolved


def _field_of_form(name: str, described: dict[str, Any]) -> dict[str, Any]:
    if name == "state":
        return {"type": "string", "example": str(EXAMPLE_STATE)}
    kinds = {described.get("type"), *(each.get("type") for each in described.get("anyOf", []))}
    if kinds & {"array", "object"}:
        text = f"{described.get('description', '')} As JSON.".strip()
        return {"type": "string", "description": text}
    return described


def _body(description: str, content: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "description": description, "content": content}}
