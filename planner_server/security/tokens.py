"""Tokens and the roles they carry. Only digests are kept; a token is shown once, when it is made."""

from __future__ import annotations

import enum
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from planner_server.errors import PlannerError, StartupError

_TOKEN_BYTES = 32


class Role(enum.IntEnum):
    """What a caller may do; each role may do all that those before it may."""

    OBSERVE = 1
    """Read: the model, sessions, plans, streams, metrics."""
    PLAN = 2
    """Robots and scripts: make sessions, set goals, plan."""
    OPERATE = 3
    """People in charge: pause, resume and stop robots."""


class TokenEntry(BaseModel):
    """One line of a tokens file; `sha256` is the digest of the token, in hexadecimal."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=64)
    role: str = Field(pattern="^(observe|plan|operate)$")
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


# A file without a single token would let everybody in, which is not why somebody names one.
_ENTRIES = TypeAdapter(Annotated[list[TokenEntry], Field(min_length=1)])


@dataclass(frozen=True)
class Caller:
    """Somebody who talks to the service.

    Attributes:
        name: Of the token, for logs and records.
        role: What they may do.
    """

    name: str
    role: Role

    def require(self, role: Role) -> None:
        """Refuse what this caller may not do.

        Raises:
            PlannerError: `forbidden`.
        """
        if self.role < role:
            raise PlannerError(
                "forbidden",
                f"the token {self.name!r} has the role {self.role.name.lower()}; this needs {role.name.lower()}",
            )


EVERYBODY = Caller("anybody", Role.OPERATE)


class TokenRing:
    """The tokens that are known; none at all lets everybody in.

    Args:
        entries: Names, roles and digests.
    """

    def __init__(self, entries: list[TokenEntry]) -> None:
        self._entries = [
            (Caller(entry.name, Role[entry.role.upper()]), bytes.fromhex(entry.sha256))
            for entry in entries
        ]

    @property
    def is_open(self) -> bool:
        """Whether everybody is let in."""
        return not self._entries

    def identify(self, token: str | None) -> Caller:
        """Return who a token belongs to; a wrong one costs the same time, however wrong it is.

        Raises:
            PlannerError: `unauthorised`.
        """
        if self.is_open:
            return EVERYBODY
        digest = hashlib.sha256((token or "").encode()).digest()
        found = None
        for caller, known in self._entries:  # all of them, always
            if hmac.compare_digest(digest, known):
                found = caller
        if found is None or not token:  # nothing is nobody's token, whatever a file lists
            given = "a wrong token" if token else "no token"
            raise PlannerError(
                "unauthorised",
                f"{given} was given; send a token of this server (its PLANNER_TOKEN, or one of its tokens_file) "
                "in `hello`, or over HTTP as `Authorization: Bearer TOKEN`",
            )
        return found

    def check_may_make_for(self, caller: Caller, owner: str) -> None:
        """Refuse somebody who would make a session that belongs to the token `owner`.

        Raises:
            PlannerError: `forbidden`, where it is another's and the role is too low; `invalid_request`, where no token
                has that name.
        """
        if owner == caller.name:
            return
        caller.require(Role.OPERATE)
        known = sorted({each.name for each, _ in self._entries})
        if known and owner not in known:
            raise PlannerError(
                "invalid_request",
                f"owner is {owner[:64]!r}, but no token has this name; known: {', '.join(known)}",
            )


def make_token(name: str, role: str) -> tuple[str, TokenEntry]:
    """Return a new random token and the entry that a tokens file needs for it."""
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    return token, entry_of(name, role, token)


def entry_of(name: str, role: str, token: str) -> TokenEntry:
    """Return the entry for a token that somebody chose."""
    return TokenEntry(name=name, role=role, sha256=hashlib.sha256(token.encode()).hexdigest())


def read_tokens(path: Path) -> list[TokenEntry]:
    """Read a tokens file: a YAML list of `{name, role, sha256}`.

    Raises:
        StartupError: The file cannot be read or says something else.
    """
    try:
        content = yaml.safe_load(path.read_text())
        return _ENTRIES.validate_python(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise StartupError(
            f"tokens_file={path} cannot be used: {_problem(error)}. It is a YAML list of {{name, role, sha256}}; "
            "`python -m planner_server token NAME --role plan` prints such a line"
        ) from None


def _problem(error: Exception) -> str:
    """Say what is wrong without quoting the file: somebody may have written a token where its digest belongs."""
    if isinstance(error, ValidationError):
        return "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'it'}: {each['msg']}" for each in error.errors()
        )
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return str(error)
