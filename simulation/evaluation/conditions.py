"""Worlds to evaluate in: new seeds of the training ranges, and looks from outside of them.

Each of the shifted conditions replaces one part of a sampled workcell by values that no training
episode can have; everything else stays as the seed drew it, object and places included.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from simulation.variation import (
    CAMERA_FOVY_DEG,
    ObjectKind,
    Point,
    Rgb,
    WorkcellVariation,
    sample_variation,
)

FIRST_SEED = 900_000  # data sets number their workcells otherwise

Condition = Literal["seeds", "colours", "lights", "camera"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
CONDITION_LABELS: dict[Condition, str] = {
    "seeds": "unseen workcells",
    "colours": "unseen colours",
    "lights": "unseen lights",
    "camera": "unseen camera poses",
}
CONDITION_MEANINGS: dict[Condition, str] = {
    "seeds": "new draws from the ranges of training",
    "colours": "object in cyan, pink, brown, white, black or lime; very light or very dark table, "
    "light floor, dark walls, grey robot",
    "lights": "key light from the side and low, too strong or too weak; ambient light likewise",
    "camera": "4 to 6 cm off on every axis, aimed 3 to 5 cm off, opening angle 2 to 3.5 degrees off",
}

_OBJECT_COLOURS: tuple[Rgb, ...] = (
    (0.10, 0.75, 0.75),
    (0.95, 0.35, 0.65),
    (0.40, 0.22, 0.10),
    (0.93, 0.93, 0.93),
    (0.07, 0.07, 0.07),
    (0.55, 0.88, 0.15),
)
_TABLE_LEVELS = ((0.05, 0.14), (0.86, 0.97))
_FLOOR_LEVEL = (0.84, 0.96)
_WALL_LEVEL = (0.06, 0.17)
_ROBOT_LEVEL = (0.45, 0.65)
_LIGHT_SIDE_M = (2.4, 3.4)
_LIGHT_HEIGHT_M = (0.9, 1.4)
_LIGHT_LEVELS = ((0.18, 0.28), (0.82, 0.95))
_AMBIENT_LEVELS = ((0.08, 0.15), (0.45, 0.55))
_CAMERA_OFFSET_M = (0.04, 0.06)
_CAMERA_AIM_M = (0.03, 0.05)
_CAMERA_FOVY_DEG = (2.0, 3.5)


def vary(
    seed: int, condition: Condition, object_kind: ObjectKind | None = None
) -> WorkcellVariation:
    """Draw the workcell of `seed` under a condition; the same arguments give the same workcell."""
    rng = np.random.default_rng([seed, 0xC0FFEE])
    return _CHANGES[condition](sample_variation(seed, object_kind), rng)


def _as_drawn(variation: WorkcellVariation, _rng: np.random.Generator) -> WorkcellVariation:
    return variation


def _recoloured(variation: WorkcellVariation, rng: np.random.Generator) -> WorkcellVariation:
    base = np.asarray(_OBJECT_COLOURS[int(rng.integers(len(_OBJECT_COLOURS)))])
    return dataclasses.replace(
        variation,
        object_rgb=_rgb(np.clip(base + rng.uniform(-0.04, 0.04, 3), 0.0, 1.0)),
        table_rgb=_grey(rng, _either(rng, _TABLE_LEVELS)),
        floor_rgb=_grey(rng, _FLOOR_LEVEL),
        wall_rgb=_grey(rng, _WALL_LEVEL),
        robot_rgb=_grey(rng, _ROBOT_LEVEL),
    )


def _relit(variation: WorkcellVariation, rng: np.random.Generator) -> WorkcellVariation:
    return dataclasses.replace(
        variation,
        light_position_m=(
            variation.light_position_m[0],
            _signed(rng, _LIGHT_SIDE_M),
            float(rng.uniform(*_LIGHT_HEIGHT_M)),
        ),
        light_intensity=float(rng.uniform(*_either(rng, _LIGHT_LEVELS))),
        ambient=float(rng.uniform(*_either(rng, _AMBIENT_LEVELS))),
    )


def _moved_camera(variation: WorkcellVariation, rng: np.random.Generator) -> WorkcellVariation:
    return dataclasses.replace(
        variation,
        camera_offset_m=_point(rng, _CAMERA_OFFSET_M),
        camera_aim_offset_m=_point(rng, _CAMERA_AIM_M),
        camera_fovy_deg=CAMERA_FOVY_DEG + _signed(rng, _CAMERA_FOVY_DEG),
    )


_CHANGES: dict[Condition, Callable[[WorkcellVariation, np.random.Generator], WorkcellVariation]] = {
    "seeds": _as_drawn,
    "colours": _recoloured,
    "lights": _relit,
    "camera": _moved_camera,
}


def _either(
    rng: np.random.Generator, ranges: tuple[tuple[float, float], tuple[float, float]]
) -> tuple[float, float]:
    return ranges[int(rng.integers(2))]


def _signed(rng: np.random.Generator, magnitude: tuple[float, float]) -> float:
    return float(rng.choice((-1.0, 1.0)) * rng.uniform(*magnitude))


def _point(rng: np.random.Generator, magnitude_m: tuple[float, float]) -> Point:
    return _signed(rng, magnitude_m), _signed(rng, magnitude_m), _signed(rng, magnitude_m)


def _grey(rng: np.random.Generator, level: tuple[float, float]) -> Rgb:
    value = float(rng.uniform(*level))
    return value, value, value


def _rgb(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Rgb:
    r, g, b = values
    return float(r), float(g), float(b)
