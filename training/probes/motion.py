"""Videos whose class is how something moves: a test of temporal understanding that needs no download.

A scene is a texture, or objects before one, on a torus: what leaves at one side comes in at the other.
A clip shows it at positions `start + t * velocity`; the class is the velocity, a direction and a speed.
The scene and the start are drawn without looking at the class, and the start is uniform, so every single
frame of every class has the same distribution: whoever sees one frame alone can only guess.

Letters in shapes: T frames, S side of a frame [px].
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from models.config import FrozenConfig
from training.probes.samples import LabelledVideos
from trajectories.cameras import ArrayCamera, CameraStream, Frames

Array = NDArray[np.float64]

_DIRECTIONS: Final = (
    "right", "down right", "down", "down left", "left", "up left", "up", "up right",
)  # fmt: skip
_CYCLES: Final = (4.0, 14.0)  # of a texture over a frame: large blobs to fine grain
_BRIGHTNESS: Final = (80.0, 175.0)
_CONTRAST: Final = (30.0, 60.0)
_OBJECTS: Final = (2, 5)
_RADIUS: Final = (0.05, 0.12)  # of an object, in sides of the frame
_WHITE: Final = 255.0


class MotionConfig(FrozenConfig):
    """Clips of moving textures and objects, made when they are asked for."""

    kind: Literal["motion"] = "motion"
    samples: PositiveInt = Field(default=960, description="Clips; classes take turns.")
    seed: NonNegativeInt = Field(
        default=0, description="Of all scenes; training and validation need different ones."
    )
    size_px: PositiveInt = Field(default=128, description="Side of the frames [px].")
    frames: PositiveInt = Field(default=8, description="Frames of a clip.")
    speeds: tuple[PositiveFloat, ...] = Field(
        default=(0.02, 0.06), min_length=1, description="Frame sides per frame, rising."
    )
    scenes: tuple[Literal["texture", "objects"], ...] = Field(
        default=("texture", "objects"),
        min_length=1,
        description="What moves; kinds are drawn alike.",
    )
    as_stills: bool = Field(
        default=False, description="Show the middle frame alone, repeated: nothing moves any more."
    )

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, speed by speed."""
        names = [f"speed {speed:g}" for speed in self.speeds]
        if len(names) == 2:
            names = ["slow", "fast"]
        return tuple(f"{direction}, {name}" for name in names for direction in _DIRECTIONS)

    def velocity(self, label: int) -> Array:
        """Return the velocity of a class, rows and columns `[2]` [px/frame]."""
        speed, direction = divmod(label, len(_DIRECTIONS))
        angle = direction * 2 * math.pi / len(_DIRECTIONS)
        return np.array([math.sin(angle), math.cos(angle)]) * self.speeds[speed] * self.size_px


class MotionVideos(LabelledVideos):
    """The clips of a configuration; clip i is a function of the configuration and i alone."""

    def __init__(self, config: MotionConfig) -> None:
        self._config = config
        self.classes = config.classes

    def __len__(self) -> int:
        return self._config.samples

    def name(self, index: int) -> str:
        """Return number and class."""
        return f"motion {index} ({self.classes[self.label(index)]})"

    def label(self, index: int) -> int:
        """Return the class of a clip."""
        return index % len(self.classes)

    def open(self, index: int) -> CameraStream:
        """Make a clip."""
        config = self._config
        rng = np.random.default_rng([config.seed, index])
        frames = moving_clip(
            draw_scene(config, rng),
            rng.uniform(0, config.size_px, 2),
            config.velocity(self.label(index)),
            config.frames,
        )
        if config.as_stills:
            frames = np.repeat(frames[len(frames) // 2, None], len(frames), axis=0)
        return ArrayCamera(frames)

    def identity(self, index: int) -> str:
        """Return what determines a clip."""
        return f"{self._config.model_dump_json(exclude={'samples'})} {index}"


class Scene(ABC):
    """Something on a torus that can be shown at any position."""

    @abstractmethod
    def at(self, position: Array) -> Array:
        """Show it moved by `position` `[2]` (rows, columns) [px]: `[S, S, 3]`, 0 to 255."""


class Texture(Scene):
    """Smooth coloured noise; moved by shifting the phases of its waves, so nothing is blurred.

    Args:
        size_px: Side of the frames [px].
        rng: Draws grain, colours and contrast.
    """

    def __init__(self, size_px: int, rng: np.random.Generator) -> None:
        self._size_px = size_px
        self._rows = np.fft.fftfreq(size_px)
        self._columns = np.fft.rfftfreq(size_px)
        radius = np.hypot(self._rows[:, None], self._columns[None]) * size_px
        waves = np.fft.rfft2(rng.standard_normal((3, size_px, size_px)))
        waves *= np.exp(-((radius / rng.uniform(*_CYCLES)) ** 2))
        waves = np.einsum("ij,jhw->ihw", rng.standard_normal((3, 3)), waves)  # colours go together
        waves[:, 0, 0] = 0.0
        # At the highest frequency of an even size a shift is not defined.
        waves[:, size_px // 2, :] = waves[:, :, size_px // 2] = 0.0
        self._waves = waves * rng.uniform(*_CONTRAST) / self._picture(waves).std()
        self._mean = rng.uniform(*_BRIGHTNESS, (3, 1, 1))

    def at(self, position: Array) -> Array:
        """Show the texture moved."""
        rows = np.exp(-2j * np.pi * self._rows * position[0])
        columns = np.exp(-2j * np.pi * self._columns * position[1])
        shifted = self._picture(self._waves * (rows[:, None] * columns))
        return np.asarray((shifted + self._mean).transpose(1, 2, 0))

    def _picture(self, waves: NDArray[np.complex128]) -> Array:
        return np.asarray(np.fft.irfft2(waves, s=(self._size_px, self._size_px)))


class Objects(Scene):
    """Discs and squares of one colour each that move together before a texture that stands still.

    Args:
        size_px: Side of the frames [px].
        rng: Draws the background, and the number, places, sizes, shapes and colours of the objects.
    """

    def __init__(self, size_px: int, rng: np.random.Generator) -> None:
        self._size_px = size_px
        self._background = Texture(size_px, rng).at(np.zeros(2))
        count = int(rng.integers(_OBJECTS[0], _OBJECTS[1] + 1))
        self._places = rng.uniform(0, size_px, (count, 2))
        self._radii = rng.uniform(*_RADIUS, count) * size_px
        self._colours = rng.uniform(0, _WHITE, (count, 3))
        self._is_square = rng.random(count) < 0.5

    def at(self, position: Array) -> Array:
        """Show the objects moved."""
        pixels = self._background.copy()
        grid = np.arange(self._size_px) + 0.5
        for number, place in enumerate(self._places):
            rows, columns = (self._distance(grid, c) for c in place + position)
            square = np.maximum(np.abs(rows)[:, None], np.abs(columns)[None])
            round_ = np.hypot(rows[:, None], columns[None])
            outside = (square if self._is_square[number] else round_) - self._radii[number]
            cover = np.clip(0.5 - outside, 0, 1)[..., None]  # an edge is one pixel soft
            pixels = pixels * (1 - cover) + self._colours[number] * cover
        return pixels

    def _distance(self, grid: NDArray[Any], centre: float) -> Array:
        """Return how far pixels are from a coordinate, the short way around the torus."""
        half = self._size_px / 2
        return np.asarray((grid - centre + half) % self._size_px - half)


_SCENES: Final = {"texture": Texture, "objects": Objects}


def draw_scene(config: MotionConfig, rng: np.random.Generator) -> Scene:
    """Draw what a clip shows, whatever its class."""
    kind = config.scenes[int(rng.integers(len(config.scenes)))]
    return _SCENES[kind](config.size_px, rng)


def moving_clip(scene: Scene, start: Array, velocity: Array, frames: int) -> Frames:
    """Show a scene at `start + t * velocity` [px], t = 0 .. frames - 1: uint8 RGB `[T, S, S, 3]`."""
    shown: Sequence[Array] = [scene.at(start + t * velocity) for t in range(frames)]
    return np.clip(np.rint(np.stack(shown)), 0, _WHITE).astype(np.uint8)
