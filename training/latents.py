"""The frozen encoder's tokens: of frames in memory, and of whole data sets into a cache.

Letters in shapes: B frames, T rows of an episode, N tokens per frame, D channels.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from models.config import FrameGeometry
from models.encoders import Encoder, encode_images
from models.model_folder import replace_file
from models.preprocess import preprocess_frames
from training.errors import DataError, LatentsMismatchError
from training.latent_cache import (
    KEY_FILE,
    TORCH_TYPES,
    CacheKey,
    LatentCache,
    StoredType,
    check_key,
    checksum,
    complete_shards,
    open_cache,
    read_key,
)
from training.recordings import Recordings, fingerprint, refuse_bad
from trajectories.errors import TrajectoryError
from trajectories.storage import publish_folder

logger = logging.getLogger(__name__)

SHARD_BYTES: Final = 2**30
_FRAMES_AT_ONCE: Final = 64


@dataclass(frozen=True)
class FrameEncoder:
    """A frozen encoder and the geometry that frames come to it in.

    Attributes:
        network: The encoder, on its device.
        geometry: How frames are cropped; see `models.config.FrameGeometry`.
    """

    network: Encoder
    geometry: FrameGeometry = "centre_square"

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Encode frames one by one, as `models.world_model.WorldModel.encode` does for the planner.

        Products are computed in bfloat16 here, whatever the precision of the run: a cache keeps no more
        digits, and what is learned does not depend on whether there is one.

        Args:
            frames: uint8 RGB `[B, H, W, 3]`.

        Returns:
            Layer-normed tokens, float32 `[B, N, D]`, on the encoder's device.
        """
        device = next(self.network.parameters()).device
        size = self.network.config.img_size
        pixels = preprocess_frames(frames.to(device), size, self.geometry)
        with torch.autocast(device.type, torch.bfloat16):
            return encode_images(self.network, pixels)

    def sha256(self) -> str:
        """Return a hash of the configuration and the weights, whatever type those are held in."""
        digest = hashlib.sha256(self.network.config.model_dump_json().encode())
        for name, value in sorted(self.network.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
        return digest.hexdigest()


def describe(encoder: FrameEncoder, recordings: Recordings, stored_type: StoredType) -> CacheKey:
    """Return the key of the cache that `encode_recordings` would make."""
    config = encoder.network.config
    return CacheKey(
        encoder_sha256=encoder.sha256(),
        img_size=config.img_size,
        frame_geometry=encoder.geometry,
        tokens_per_frame=config.tokens_per_frame,
        embed_dim=config.embed_dim,
        data_sha256=fingerprint(recordings),
        row_period_s=recordings.row_period_s,
        stored_type=stored_type,
    )


def check_encoder(directory: Path, key: CacheKey, encoder: FrameEncoder) -> None:
    """Refuse a cache that another encoder made, whatever recordings it is of.

    Raises:
        LatentsMismatchError: Says what differs.
    """
    config = encoder.network.config
    own = {
        "encoder_sha256": encoder.sha256(),
        "img_size": config.img_size,
        "frame_geometry": encoder.geometry,
        "tokens_per_frame": config.tokens_per_frame,
        "embed_dim": config.embed_dim,
    }
    check_key(directory, key, key.model_copy(update=own))


def encode_recordings(
    encoder: FrameEncoder,
    recordings: Recordings,
    directory: Path,
    *,
    stored_type: StoredType = "bfloat16",
    part: tuple[int, int] = (0, 1),
    shard_bytes: int = SHARD_BYTES,
    max_bad: int = 0,
) -> LatentCache:
    """Encode every frame of all views into a cache; what is there already is kept.

    A view whose frames cannot be read is left out and named; the others are encoded all the same.

    Args:
        encoder: The frozen encoder.
        recordings: What to encode.
        directory: The cache, new or begun by an earlier call with the same arguments.
        stored_type: Type of the numbers on disk.
        part: Which part of how many this call encodes, for several processes at once.
        shard_bytes: A shard is finished when it has grown to this size [bytes].
        max_bad: Unreadable views to leave out before the cache is refused.

    Returns:
        The opened cache, with all shards that are complete so far.

    Raises:
        LatentsMismatchError: The folder holds a cache of something else.
        DataError: There is no episode, or more views are unreadable; the others are in the cache.
    """
    key = describe(encoder, recordings, stored_type)
    _claim(directory, key)
    # Every process takes its share of all, whatever others have finished meanwhile.
    done = _done(directory, key)
    todo = [pair for pair in _wanted(recordings)[part[0] :: part[1]] if pair not in done]
    writer: ShardFile | None = None
    names = _free_names(directory, part[0])
    bad: list[str] = []
    for episode, view in track(todo, description="encoding frames"):
        try:
            tokens = _encode_view(encoder, recordings, episode, view)
        except TrajectoryError as error:
            bad.append(f"{episode}, view {view}: {error}")
            logger.warning("left out %s", bad[-1])
            continue
        if writer is None:
            writer = ShardFile(next(names), key)
        writer.append(episode, view, tokens, recordings.states(episode))
        if writer.size_bytes >= shard_bytes:
            writer.close()
            writer = None
    if writer is not None:
        writer.close()
    refuse_bad(bad, max_bad, f"{len(todo)} views that were to be encoded")
    return open_cache(directory, key)


def _encode_view(encoder: FrameEncoder, recordings: Recordings, episode: str, view: str) -> Tensor:
    """Return the tokens of one view, `[T, N, D]`, encoded a few frames at a time."""
    rows = np.arange(len(recordings.states(episode)), dtype=np.int64)
    encoded = []
    for chunk in np.split(rows, range(_FRAMES_AT_ONCE, len(rows), _FRAMES_AT_ONCE)):
        frames = np.ascontiguousarray(recordings.frames(episode, view, chunk))
        encoded.append(encoder.encode(torch.from_numpy(frames)).cpu())
    return torch.cat(encoded)


def _claim(directory: Path, key: CacheKey) -> None:
    """Write the key of a new cache, or compare it with the one that is there."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / KEY_FILE
    if path.exists():
        check_key(directory, read_key(directory), key)
    else:
        # Several processes may write it; it is the same for all.
        text = key.model_dump_json(indent=1)
        replace_file(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def _wanted(recordings: Recordings) -> list[tuple[str, str]]:
    """List every (episode, view) pair."""
    wanted = [(name, view) for name in recordings.episodes for view in recordings.views(name)]
    if not wanted:
        raise DataError("there is no episode with a view to encode")
    return wanted


def _done(directory: Path, key: CacheKey) -> set[tuple[str, str]]:
    """Return the (episode, view) pairs that complete shards hold."""
    return set(open_cache(directory, key).contents) if complete_shards(directory) else set()


def _free_names(directory: Path, part: int) -> Iterator[Path]:
    """Yield folders for the shards of one part; a half-written one is removed."""
    number = 0
    while True:
        path = directory / f"shard-{part:03d}-{number:05d}"
        if not path.exists():
            shutil.rmtree(path.with_name(path.name + ".partial"), ignore_errors=True)
            yield path
        number += 1


class ShardFile:
    """Write one shard; it gets its final name when it is closed.

    Args:
        directory: The shard's final folder.
        key: What the cache is made from.
    """

    def __init__(self, directory: Path, key: CacheKey) -> None:
        self._directory = directory
        self._partial = directory.with_name(directory.name + ".partial")
        self._partial.mkdir(parents=True, exist_ok=True)
        self._key = key
        self._file = (self._partial / "tokens.bin").open("wb")
        self._blocks: list[dict[str, Any]] = []
        self._checks: list[int] = []
        self._states: list[NDArray[np.float64]] = []

    @property
    def size_bytes(self) -> int:
        """Bytes of tokens so far."""
        return len(self._checks) * self._key.frame_bytes

    def append(self, episode: str, view: str, tokens: Tensor, states: NDArray[np.float64]) -> None:
        """Add all encoded frames `[T, N, D]` of one view of one episode, with states `[T, 7]`."""
        if tokens.shape[1:] != self._key.frame_shape or len(tokens) != len(states):
            raise LatentsMismatchError(
                f"episode {episode}: tokens {list(tokens.shape)} and {len(states)} states do not "
                f"belong in a cache of frames {list(self._key.frame_shape)}"
            )
        stored = tokens.to("cpu", TORCH_TYPES[self._key.stored_type]).contiguous()
        self._blocks.append(
            {"episode": episode, "view": view, "first": len(self._checks), "count": len(tokens)}
        )
        self._checks += [checksum(frame) for frame in stored]
        self._states.append(states)
        self._file.write(stored.view(torch.uint8).numpy().data)

    def close(self) -> None:
        """Publish the shard by renaming it: readers see all of it or nothing."""
        self._file.close()
        np.save(self._partial / "checks.npy", np.array(self._checks, dtype=np.uint32))
        np.save(self._partial / "states.npy", np.concatenate(self._states))
        (self._partial / "blocks.json").write_text(json.dumps(self._blocks))
        publish_folder(self._partial, self._directory)
