"""What differs between two workcells: object, table, lights, background, distractors, camera.

A variation is plain frozen data sampled from a seed; `simulation.workcell` turns it into a scene.
Lengths are metres in the robot base frame, whose origin lies on the table top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

ObjectKind = Literal["cube", "cup", "box", "bottle"]
OBJECT_KINDS: tuple[ObjectKind, ...] = get_args(ObjectKind)
Rgb = tuple[float, float, float]
Point = tuple[float, float, float]

CAMERA_POSITION_M: Point = (1.15, 0.77, 0.68)
CAMERA_TARGET_M: Point = (0.445, 0.0, 0.20)
CAMERA_FOVY_DEG = 41.0
TABLE_PATTERNS = ("plain", "checker", "tiles", "crosses")
_OBJECT_COLOURS: tuple[Rgb, ...] = (
    (0.85, 0.12, 0.10),
    (0.10, 0.35, 0.85),
    (0.10, 0.60, 0.20),
    (0.95, 0.75, 0.10),
    (0.55, 0.15, 0.60),
    (0.95, 0.45, 0.10),
)
OBJECT_X_M = (0.36, 0.58)
OBJECT_Y_M = (-0.20, 0.20)


@dataclass(frozen=True)
class Distractor:
    """A fixed, non-colliding body outside the gripper's workspace."""

    shape: Literal["box", "cylinder", "sphere"]
    size_m: float
    position_m: tuple[float, float]
    yaw_rad: float
    rgb: Rgb


@dataclass(frozen=True)
class WorkcellVariation:
    """Everything that is drawn at random about one workcell; the defaults are the plain cell.

    Attributes:
        object_kind: The movable object; `simulation.movables` has its measures.
        object_scale: Factor on the object's nominal size.
        object_position_m: Where the object stands at the start, x and y.
        object_yaw_rad: Its heading about the vertical.
        light_position_m: Where the key light comes from; it shines at the table's middle.
        light_intensity: Diffuse strength of the key light in [0, 1].
        ambient: Strength of the light that reaches every surface, in [0, 1].
        camera_offset_m: Added to the nominal camera position.
        camera_aim_offset_m: Added to the point the camera looks at.
        camera_yaw_rad: Turn of the camera's place about the vertical through that point.
    """

    object_kind: ObjectKind = "cube"
    object_rgb: Rgb = _OBJECT_COLOURS[0]
    object_scale: float = 1.0
    object_position_m: tuple[float, float] = (0.47, 0.0)
    object_yaw_rad: float = 0.0
    table_rgb: Rgb = (0.62, 0.52, 0.40)
    table_pattern: str = "plain"
    floor_rgb: Rgb = (0.35, 0.37, 0.40)
    wall_rgb: Rgb = (0.70, 0.72, 0.74)
    robot_rgb: Rgb = (0.90, 0.90, 0.92)
    light_position_m: Point = (1.5, -1.0, 2.5)
    light_intensity: float = 0.55
    ambient: float = 0.30
    camera_offset_m: Point = (0.0, 0.0, 0.0)
    camera_aim_offset_m: Point = (0.0, 0.0, 0.0)
    camera_yaw_rad: float = 0.0
    camera_fovy_deg: float = CAMERA_FOVY_DEG
    distractors: tuple[Distractor, ...] = ()


def sample_variation(seed: int, object_kind: ObjectKind | None = None) -> WorkcellVariation:
    """Draw a workcell from `seed`; the same seed gives the same workcell.

    Args:
        seed: Any non-negative integer.
        object_kind: Fixes the object's kind without changing anything else that is drawn.
    """
    rng = np.random.default_rng([seed, 0x5CE7E])
    kind = OBJECT_KINDS[int(rng.random() * len(OBJECT_KINDS))]
    grey = rng.uniform(0.75, 0.97)
    return WorkcellVariation(
        object_kind=object_kind or kind,
        object_rgb=_object_colour(rng),
        object_scale=float(rng.uniform(0.92, 1.08)),
        object_position_m=(float(rng.uniform(*OBJECT_X_M)), float(rng.uniform(*OBJECT_Y_M))),
        object_yaw_rad=float(rng.uniform(-0.35, 0.35)),
        table_rgb=_colour(rng, 0.2, 0.7, saturation=0.35),
        table_pattern=TABLE_PATTERNS[int(rng.integers(len(TABLE_PATTERNS)))],
        floor_rgb=_colour(rng, 0.1, 0.7, saturation=0.3),
        wall_rgb=_colour(rng, 0.25, 0.8, saturation=0.4),
        robot_rgb=(float(grey), float(grey), float(min(1.0, grey + 0.02))),
        light_position_m=(
            float(rng.uniform(-0.5, 2.5)),
            float(rng.uniform(-2.0, 2.0)),
            float(rng.uniform(1.5, 3.0)),
        ),
        light_intensity=float(rng.uniform(0.35, 0.75)),
        ambient=float(rng.uniform(0.2, 0.4)),
        camera_offset_m=_point(rng, 0.03),
        camera_aim_offset_m=_point(rng, 0.025),
        camera_fovy_deg=float(CAMERA_FOVY_DEG + rng.uniform(-1.5, 1.5)),
        distractors=tuple(_distractor(rng) for _ in range(int(rng.integers(0, 4)))),
    )


def _point(rng: np.random.Generator, spread_m: float) -> Point:
    x, y, z = rng.uniform(-spread_m, spread_m, 3)
    return (float(x), float(y), float(z))


def _colour(rng: np.random.Generator, dark: float, light: float, saturation: float) -> Rgb:
    level = rng.uniform(dark, light)
    tint = rng.uniform(-0.5, 0.5, 3) * saturation
    r, g, b = np.clip(level * (1.0 + tint), 0.0, 1.0)
    return (float(r), float(g), float(b))


def _object_colour(rng: np.random.Generator) -> Rgb:
    base = np.asarray(_OBJECT_COLOURS[int(rng.integers(len(_OBJECT_COLOURS)))])
    r, g, b = np.clip(base + rng.uniform(-0.08, 0.08, 3), 0.0, 1.0)
    return (float(r), float(g), float(b))


def _distractor(rng: np.random.Generator) -> Distractor:
    """Draw a body beside or in front of the robot, outside the gripper's workspace."""
    if rng.random() < 0.6:
        x, y = rng.uniform(0.10, 0.75), rng.uniform(-0.56, -0.42)
    else:
        x, y = rng.uniform(0.10, 0.55), rng.uniform(0.40, 0.50)
    shapes: tuple[Literal["box", "cylinder", "sphere"], ...] = ("box", "cylinder", "sphere")
    return Distractor(
        shape=shapes[int(rng.integers(3))],
        size_m=float(rng.uniform(0.02, 0.05)),
        position_m=(float(x), float(y)),
        yaw_rad=float(rng.uniform(-np.pi, np.pi)),
        rgb=_colour(rng, 0.15, 0.9, saturation=1.0),
    )
