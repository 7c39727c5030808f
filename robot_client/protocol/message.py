"""What every message of the wire is: a frozen dataclass that checks itself when it is built."""

import dataclasses
from typing import Any, ClassVar, get_type_hints

from robot_client import codec
from robot_client.errors import ProtocolError
from robot_client.fields import Check

_CHECKS: dict[type, dict[str, Check]] = {}


def _checks(kind: type) -> dict[str, Check]:
    """Each field's check in order of declaration; read from the annotations once per class."""
    if kind not in _CHECKS:
        hints = get_type_hints(kind, include_extras=True)
        names = [field.name for field in dataclasses.fields(kind)]
        _CHECKS[kind] = {name: hints[name].__metadata__[0] for name in names}
    return _CHECKS[kind]


def known_fields(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """The entries that are fields of `kind`; those without a default must be there."""
    for field in dataclasses.fields(kind):
        if field.name not in values and field.default is dataclasses.MISSING:
            present = ", ".join(sorted(map(str, values))) or "nothing"
            text = f"{kind.__name__.lower()} lacks {field.name!r}; it has {present[:200]}"
            raise ProtocolError("malformed_message", text)
    return {
        field.name: values[field.name] for field in dataclasses.fields(kind) if field.name in values
    }


class Validated:
    """Runs each field's check when built and keeps the canonical value."""

    def __post_init__(self) -> None:
        for name, check in _checks(type(self)).items():
            # The dataclasses are frozen for everybody else; this is their constructor.
            object.__setattr__(self, name, check(name, getattr(self, name)))

    def as_map(self) -> dict[str, Any]:
        """The fields in order of declaration, ready for `codec.pack`."""
        values = {name: getattr(self, name) for name in _checks(type(self))}
        return {k: v.as_map() if isinstance(v, Validated) else v for k, v in values.items()}


class WireMessage(Validated):
    """A message of its own; `TYPE` is what travels under the key "type"."""

    TYPE: ClassVar[str]

    def encode(self) -> bytes:
        """The message as one msgpack payload; equal messages give equal bytes."""
        return codec.pack({"type": self.TYPE, **self.as_map()})
