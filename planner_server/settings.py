"""What can be configured: a YAML file named by PLANNER_CONFIG, overridden by PLANNER_* environment variables."""

from __future__ import annotations

import logging
import os
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)
from typing_extensions import Self

from planner_server.errors import StartupError
from planner_server.planning import Planner, planners
from robot_client.protocol import DEFAULT_ADDRESS

logger = logging.getLogger(__name__)

PREFIX = "PLANNER_"
CONFIG_VARIABLE = "PLANNER_CONFIG"


class Settings(BaseSettings):
    """Every setting of the service; unknown keys are refused."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, use_attribute_docstrings=True
    )

    model: Path = Path(str(files("models"))) / "shipped"
    """World model to serve: a folder with config.json and model.safetensors, or a published .pt file."""
    device: str = "cpu"
    """Where the model runs: cpu, cuda or cuda:N."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Numbers that the search multiplies: auto takes bfloat16 where the hardware is built for it."""
    torch_threads: int | None = Field(default=None, ge=1)
    """CPU threads of the planning worker; None leaves the choice to torch."""
    control_period_s: float | None = Field(default=None, ge=1e-3, le=60)
    """Seconds per action [s], where the model's own configuration is to be overruled."""
    max_step_m: float | None = Field(default=None, gt=0, le=1)
    """Largest displacement per axis and action [m], where the model's own box is to be narrowed."""

    default_planner: str = "icem"
    """Planner of sessions that name none."""
    planners: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options of the planners by name, for example `{icem: {uniform_candidates: 256}}`."""
    horizon: int = Field(default=1, ge=1, le=16)
    """Control periods planned."""
    deadline_ms: float | None = Field(default=None, gt=0)
    """Time after which a search starts no further batch and answers with the best so far [ms]; None is no limit."""

    zmq_endpoint: str = DEFAULT_ADDRESS
    """Where robots connect; tcp://127.0.0.1:* takes any free port."""
    token: SecretStr | None = None
    """Secret that `hello` and HTTP (Authorization: Bearer) must carry; None lets everybody in."""

    max_sessions: int = Field(default=64, ge=1)
    """Sessions kept at once."""
    session_idle_s: float = Field(default=3600.0, gt=0)
    """Time without any message after which a session is forgotten [s]."""
    max_waiting: int = Field(default=64, ge=1)
    """Requests that may wait for the worker before HTTP answers `busy`."""
    max_request_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)
    """Largest HTTP request body [bytes]."""
    goal_cache: int = Field(default=64, ge=1)
    """Encoded goal images kept by content, so that sending one again costs nothing."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Level of the service's own log lines."""

    @field_validator("zmq_endpoint")
    @classmethod
    def _is_endpoint(cls, value: str) -> str:
        if not value.startswith(("tcp://", "ipc://")):
            raise ValueError(f"{value!r} must look like tcp://127.0.0.1:5555 or ipc:///path")
        return value

    @model_validator(mode="after")
    def _check_planners(self) -> Self:
        for name in (self.default_planner, *self.planners):
            if name not in planners:
                raise ValueError(f"planner {name!r} does not exist; known: {', '.join(planners)}")
        self.build_planners()
        return self

    def build_planners(self) -> dict[str, Planner]:
        """Build every registered planner with its configured options."""
        return {name: make(**self.planners.get(name, {})) for name, make in planners.items()}

    @classmethod
    def settings_customise_sources(  # the signature is pydantic's
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments first, then the environment, then the file."""
        path = os.environ.get(CONFIG_VARIABLE)
        from_file = InitSettingsSource(settings_cls, _read_yaml(Path(path)) if path else {})
        return init_settings, env_settings, from_file


def load_settings() -> Settings:
    """Read file and environment.

    Raises:
        StartupError: The file cannot be read, or a key or value is not allowed.
    """
    _warn_of_unknown_variables()
    try:
        return Settings()
    except (ValidationError, SettingsError) as error:
        problems = (
            [f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors()]
            if isinstance(error, ValidationError)
            else [str(error)]
        )
        source = os.environ.get(CONFIG_VARIABLE, f"no {CONFIG_VARIABLE}")
        raise StartupError(
            f"bad settings ({source} and PLANNER_* variables): {'; '.join(problems)}. "
            f"Allowed keys: {', '.join(Settings.model_fields)}"
        ) from error


def _warn_of_unknown_variables() -> None:
    """Name what may be a misspelt setting; refusing it would trip over variables that others set."""
    known = {CONFIG_VARIABLE, *(PREFIX + name.upper() for name in Settings.model_fields)}
    for name in sorted(set(os.environ) - known):
        if name.startswith(PREFIX):
            logger.warning("environment variable %s is no setting of the server", name)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise StartupError(
            f"{CONFIG_VARIABLE}={path} cannot be read: {error}. "
            "Name a YAML file such as configs/server/default.yaml"
        ) from error
    if not isinstance(content, dict):
        raise StartupError(f"{path} must hold a map of settings, not {type(content).__name__}")
    return content
