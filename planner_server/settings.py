"""What can be configured: a YAML file named by PLANNER_CONFIG, overridden by PLANNER_* environment variables."""

from __future__ import annotations

import hashlib
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
from planner_server.planning import planners
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
    precision: Literal["auto", "float32", "bfloat16", "float8"] = "auto"
    """Numbers that the search multiplies: auto takes bfloat16 where the hardware is built for it; float8 needs CUDA."""
    compiled: bool = False
    """Compile the predictor, as CUDA graphs on a GPU; the first plans take minutes, the others less time."""
    torch_threads: int | None = Field(default=None, ge=1)
    """CPU threads of the planning worker; None leaves the choice to torch."""
    control_period_s: float | None = Field(default=None, ge=1e-3, le=60)
    """Seconds per action [s], where the model's own configuration is to be overruled."""
    max_step_m: float | None = Field(default=None, gt=0, le=1)
    """Largest displacement per axis and action [m], where the model's own box is to be narrowed."""

    default_planner: str = planners.default
    """Planner of sessions that name none."""
    planners: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options of the planners by name, for example `{icem: {uniform_candidates: 256}}`."""
    horizon: int = Field(default=1, ge=1, le=16)
    """Control periods planned, where a session does not say."""
    deadline_ms: float | None = Field(default=None, gt=0)
    """Time from an observation's arrival after which its search ends with the best so far [ms]; None sets none."""
    max_search_s: float = Field(default=10.0, ge=0.1, le=600)
    """Longest search [s], whatever its deadline: it ends with the best so far, because other robots wait behind it."""
    chunk_size: int | None = Field(default=None, ge=1)
    """Candidates imagined at once; None: what suits the device."""
    max_batch: int | None = Field(default=None, ge=1, le=256)
    """Sessions planned in one call; None: 16 on CUDA, 1 on a CPU, which gains nothing by more."""

    zmq_endpoint: str = DEFAULT_ADDRESS
    """Where robots connect; tcp://127.0.0.1:* takes any free port."""
    public_host: str | None = None
    """Name under which other machines reach this one, told to robots in place of an address such as 0.0.0.0."""
    token: SecretStr | None = None
    """Secret with the role operate, that `hello` and HTTP (Authorization: Bearer) must carry."""
    tokens_file: Path | None = None
    """YAML list of `{name, role, sha256}`; with neither this nor `token`, everybody on this machine is let in."""
    curve_secret_key: Path | None = None
    """The server's secret key (NAME.key_secret); None leaves the robots' connections unencrypted."""
    curve_clients: Path | None = None
    """Folder with the public keys (*.key) of the robots that may connect."""
    requests_per_s: float = Field(default=500.0, gt=0)
    """HTTP requests per second and caller; twice as many at once."""
    messages_per_s: float = Field(default=2000.0, gt=0)
    """ZMQ messages per second and connection; twice as many at once."""

    data_dir: Path | None = None
    """Folder of the database; None: ~/.local/state/vjepa-planner/..., or memory where the port is a random one."""
    database_url: SecretStr | None = None
    """postgresql+psycopg://user:password@host/name, where several servers share their state."""
    retain_days: float = Field(default=30.0, gt=0)
    """Plans, events and ended sessions older than this are deleted [days]."""
    retain_plans: int = Field(default=1_000_000, ge=1)
    """Plans kept at most; the oldest go first."""
    retain_frames: int = Field(default=20_000, ge=0)
    """Small pictures of observed frames kept for the history, about 5 kB each; 0 keeps none."""
    episodes: Path | None = None
    """Folder of recorded episodes, to be looked at and downloaded; their frames may be named as goals."""

    max_sessions: int = Field(default=64, ge=1)
    """Sessions kept at once."""
    session_idle_s: float = Field(default=3600.0, gt=0)
    """Time without any message after which a session is forgotten [s]."""
    max_waiting: int = Field(default=64, ge=1)
    """Requests that may wait for the worker before HTTP answers `busy`."""
    max_request_bytes: int = Field(default=32 * 1024 * 1024, ge=1024)
    """Largest HTTP request body [bytes]."""
    max_streams: int = Field(default=64, ge=1)
    """Event streams open at once."""
    goal_cache: int = Field(default=256, ge=1)
    """Goal images whose tokens are kept; the others are encoded again when they are needed."""
    drain_s: float = Field(default=5.0, ge=0)
    """Time that waiting plans get when the server is asked to stop [s]."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Level of the service's own log lines."""
    log_format: Literal["text", "json"] = "text"
    """One line per event for people, or one JSON object for machines."""

    @field_validator("token")
    @classmethod
    def _is_said(cls, value: SecretStr | None) -> SecretStr | None:
        """Take an empty token, as `PLANNER_TOKEN=` sets it, for none: it would let everybody in."""
        return value if value is not None and value.get_secret_value() else None

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
        self.planner_options()
        return self

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        if (self.curve_secret_key is None) != (self.curve_clients is None):
            raise ValueError("curve_secret_key and curve_clients go together; set both or neither")
        return self

    def planner_options(self) -> dict[str, Any]:
        """Return the checked options of every registered planner."""
        return {name: planners.settings(name, **self.planners.get(name, {})) for name in planners}

    def digest(self) -> str:
        """Return a short name of what is configured, secrets left out, for logs and records."""
        text = self.model_dump_json(exclude={"token", "database_url"})
        return hashlib.sha256(text.encode()).hexdigest()[:12]

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
