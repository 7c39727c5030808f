"""Encoded frames on disk: written once, memory-mapped, checked, and read in any order.

A frozen encoder says the same about a frame in every epoch, so its tokens are computed once. A cache
is a folder with `cache.json` (what it was made from, see `CacheKey`) and `shard-*/` folders, each with
`tokens.bin` (all frames, `[F, N, D]`), `checks.npy` (a CRC-32 per frame), `states.npy` (float64
`[F, 7]`) and `blocks.json` (which episode and view each run of frames is). A shard appears under its
final name only when it is complete. Post-training needs nothing but the cache.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from models.config import FrameGeometry
from training.errors import CorruptLatentsError, LatentsMismatchError

KEY_FILE: Final = "cache.json"
FORMAT_VERSION: Final = 1

StoredType = Literal["bfloat16", "float8_e4m3fn"]
"""`bfloat16`: 2 bytes a number. `float8_e4m3fn`: 1 byte, about 3 % off; halves the disk."""


_REMEDY: Final = "make one with `python -m training latents encode`"
TORCH_TYPES: Final = {"bfloat16": torch.bfloat16, "float8_e4m3fn": torch.float8_e4m3fn}


class CacheKey(BaseModel):
    """What a cache was made from; a cache of anything else is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: int = FORMAT_VERSION
    encoder_sha256: str = Field(description="Hash of the encoder's configuration and weights.")
    img_size: tuple[int, int] = Field(description="Height and width that frames came to [px].")
    frame_geometry: FrameGeometry = Field(description="How they were cropped before.")
    tokens_per_frame: int = Field(description="Tokens of a frame, N.")
    embed_dim: int = Field(description="Channels of a token, D.")
    data_sha256: str = Field(description="Hash of the recordings' names, lengths and states.")
    row_period_s: float = Field(gt=0, description="Time between two rows [s].")
    stored_type: StoredType = "bfloat16"

    @property
    def frame_shape(self) -> tuple[int, int]:
        """Tokens and channels of a frame."""
        return self.tokens_per_frame, self.embed_dim

    @property
    def frame_bytes(self) -> int:
        """Size of a frame on disk [bytes]."""
        return self.tokens_per_frame * self.embed_dim * TORCH_TYPES[self.stored_type].itemsize


@dataclass(frozen=True)
class Block:
    """The frames of one view of one episode, in one run.

    Attributes:
        episode: Name of the episode.
        view: Name of the camera.
        first: Place of its first frame in the shard.
        count: Number of its frames.
    """

    episode: str
    view: str
    first: int
    count: int


@dataclass(frozen=True)
class _Shard:
    """An opened shard; `checked` remembers which frames were compared with their CRC."""

    path: Path
    tokens: Tensor  # [F, N, D], memory-mapped
    checks: NDArray[np.uint32]  # [F]
    states: NDArray[np.float64]  # [F, 7]
    blocks: tuple[Block, ...]
    checked: NDArray[np.bool_] = field(compare=False)

    def read(self, frames: NDArray[np.int64]) -> Tensor:
        """Copy frames out, each compared with its CRC the first time it is read."""
        for index in frames[~self.checked[frames]]:
            if checksum(self.tokens[index]) != self.checks[index]:
                raise CorruptLatentsError(
                    f"{self.path}: frame {index} ({self._owner(int(index))}) is damaged; remove "
                    "this folder and encode again, the other shards are kept"
                )
            self.checked[index] = True
        # Indexing is not defined for 8-bit floats, so the bytes are gathered.
        return self.tokens.view(torch.uint8)[torch.from_numpy(frames)].view(self.tokens.dtype)

    def _owner(self, frame: int) -> str:
        block = next(b for b in self.blocks if b.first <= frame < b.first + b.count)
        return f"episode {block.episode}, view {block.view}, row {frame - block.first}"


class LatentCache:
    """Read tokens of recorded frames; open one with `open_cache`.

    Attributes:
        key: What it was made from.
    """

    def __init__(self, directory: Path, key: CacheKey, shards: Sequence[_Shard]) -> None:
        self.key = key
        self._directory = directory
        self._shards = tuple(shards)
        self._places = {
            (block.episode, block.view): (shard, block)
            for shard in self._shards
            for block in shard.blocks
        }

    def __reduce__(self) -> tuple[Any, ...]:
        # A memory map must not be copied into a loading process: that one opens it again.
        return open_cache, (self._directory, self.key)

    @property
    def contents(self) -> tuple[tuple[str, str], ...]:
        """Every (episode, view) that it holds."""
        return tuple(self._places)

    @property
    def frames(self) -> int:
        """Number of frames that it holds."""
        return sum(block.count for _, block in self._places.values())

    def states(self, episode: str, view: str) -> NDArray[np.float64]:
        """Return the robot's state at every row, `[T, 7]` [m, rad, closedness]."""
        shard, block = self._places[episode, view]
        return shard.states[block.first : block.first + block.count]

    def tokens(self, episode: str, view: str, rows: NDArray[np.int64]) -> Tensor:
        """Return layer-normed tokens of rows, bfloat16 `[K, N, D]`.

        Args:
            episode: Name of the episode.
            view: Name of the camera.
            rows: Rows, counted from 0.

        Raises:
            CorruptLatentsError: A frame on disk is not the one that was written.
        """
        shard, block = self._places[episode, view]
        if rows.min() < 0 or rows.max() >= block.count:
            raise IndexError(f"rows {rows.tolist()} of episode {episode}, which has {block.count}")
        return shard.read(rows + block.first).bfloat16()

    def verify(self) -> None:
        """Compare every frame with its CRC.

        Raises:
            CorruptLatentsError: Names the first damaged frame.
        """
        for shard in self._shards:
            for block in shard.blocks:
                shard.read(np.arange(block.first, block.first + block.count))


def checksum(frame: Tensor) -> int:
    """Return the CRC-32 of a frame's bytes."""
    return zlib.crc32(frame.contiguous().view(torch.uint8).numpy().data)


def open_cache(directory: Path, expected: CacheKey | None = None) -> LatentCache:
    """Open all complete shards of a cache.

    Args:
        directory: The cache.
        expected: What it should have been made from; whatever it is, by default.

    Raises:
        CorruptLatentsError: It is no cache, empty, or a shard is truncated.
        LatentsMismatchError: It was made from something else; says what differs.
    """
    key = read_key(directory)
    if expected is not None:
        check_key(directory, key, expected)
    shards = [_open_shard(path, key) for path in complete_shards(directory)]
    if not shards:
        raise CorruptLatentsError(f"{directory} holds no complete shard; {_REMEDY}")
    return LatentCache(directory, key, shards)


def complete_shards(directory: Path) -> list[Path]:
    """Return the folders of all shards that were finished."""
    return sorted(p for p in directory.glob("shard-*") if p.suffix != ".partial")


def read_key(directory: Path) -> CacheKey:
    """Read what a cache was made from.

    Raises:
        CorruptLatentsError: It is no cache.
    """
    path = directory / KEY_FILE
    try:
        return CacheKey.model_validate_json(path.read_text())
    except FileNotFoundError as error:
        raise CorruptLatentsError(f"{directory} is no cache of latents; {_REMEDY}") from error
    except ValidationError as error:
        raise CorruptLatentsError(f"{path} cannot be read: {error}; {_REMEDY}") from error


def check_key(directory: Path, found: CacheKey, expected: CacheKey) -> None:
    """Refuse a cache that was made from something else.

    Raises:
        LatentsMismatchError: Lists every difference.
    """
    differences = [
        f"{name} is {getattr(found, name)}, expected {getattr(expected, name)}"
        for name in CacheKey.model_fields
        if getattr(found, name) != getattr(expected, name)
    ]
    if differences:
        raise LatentsMismatchError(
            f"the latents in {directory} were made from something else: {'; '.join(differences)}. "
            "Name another folder, or remove this one"
        )


def _open_shard(path: Path, key: CacheKey) -> _Shard:
    try:
        blocks = tuple(Block(**entry) for entry in json.loads((path / "blocks.json").read_text()))
        checks = np.load(path / "checks.npy", allow_pickle=False)
        states = np.load(path / "states.npy", allow_pickle=False)
        size = (path / "tokens.bin").stat().st_size
    except (OSError, ValueError, TypeError, EOFError) as error:  # the last one: an empty .npy
        raise CorruptLatentsError(f"{path} cannot be read ({error}); remove it") from error
    count = sum(block.count for block in blocks)
    if not len(checks) == len(states) == count or size != count * key.frame_bytes:
        raise CorruptLatentsError(
            f"{path} should hold {count} frames of {key.frame_bytes} bytes, tokens.bin has {size} "
            "bytes; remove this folder and encode again"
        )
    raw = torch.from_file(str(path / "tokens.bin"), shared=False, size=size, dtype=torch.uint8)
    tokens = raw.view(TORCH_TYPES[key.stored_type]).view(count, *key.frame_shape)
    return _Shard(path, tokens, checks, states, blocks, np.zeros(count, dtype=np.bool_))
