"""How a camera is set; a YAML file for `--camera-settings`, every field optional."""

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robot_client.errors import CameraError


class CameraSettings(BaseModel):
    """What is asked of a camera; None leaves it as it is. A camera that cannot, says so in the log."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    width: Annotated[int, Field(ge=16, le=4096)] | None = None
    """Frame width [px]."""
    height: Annotated[int, Field(ge=16, le=4096)] | None = None
    """Frame height [px]."""
    fps: Annotated[float, Field(gt=0, le=240)] | None = None
    """Frames per second."""
    exposure: float | None = None
    """Exposure in the driver's own unit (UVC on Linux: 100 microseconds); None: automatic."""
    gain: float | None = None
    """Gain in the driver's own unit; None: automatic."""
    white_balance_k: Annotated[float, Field(ge=1000, le=12000)] | None = None
    """Colour temperature [K]; None: automatic. Fix it: goal images must look like what comes later."""


def load_camera_settings(path: Path | None) -> CameraSettings:
    """Read a settings file; None gives the defaults.

    Raises:
        CameraError: It cannot be read or has unknown keys or values out of range.
    """
    if path is None:
        return CameraSettings()
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        return CameraSettings.model_validate(values or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as error:
        raise CameraError(f"{path} holds no camera settings: {error}") from error
