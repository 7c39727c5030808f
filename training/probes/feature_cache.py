"""Tokens on disk: every clip is encoded once, and read back as the very same numbers.

A cache is a folder with `cache.json` (what it was made from) and `shard-*/` folders, each with
`tokens.bin` (`[E, V, N, D]`) and `entries.json`: which version of which sample each entry is, its
CRC-32, and the samples that could not be read. A shard appears under its final name only when it is
complete; an interrupted encoding goes on with what is missing.

Letters in shapes: E entries, V views, N tokens, D channels.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from models.model_folder import replace_file
from training.errors import CorruptLatentsError, LatentsMismatchError
from training.latent_cache import checksum, complete_shards
from trajectories.storage import publish_folder

KEY_FILE: Final = "cache.json"
SHARD_BYTES: Final = 2**30
_TYPES: Final = {"bfloat16": torch.bfloat16, "float32": torch.float32}

Entry = tuple[int, int]
"""Number of a sample, and which version of it."""


class FeatureKey(BaseModel):
    """What a cache was made from; a cache of anything else is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: Literal[1] = 1
    encoder_sha256: str = Field(description="Hash of the weights and of how the encoder is asked.")
    samples_sha256: str = Field(description="Hash of the samples, their clips and augmentation.")
    samples: int = Field(description="How many there are.")
    versions: int = Field(description="Augmented versions of each; evaluation has 1.")
    seed: int | None = Field(description="Of the augmentation; None: as evaluation sees them.")
    stored_type: Literal["bfloat16", "float32"] = Field(description="The encoder's precision.")


@dataclass(frozen=True)
class _Shard:
    path: Path
    tokens: Tensor  # [E, V, N, D], memory-mapped
    checks: Sequence[int]
    checked: set[int] = field(default_factory=set, compare=False)

    def read(self, place: int) -> Tensor:
        """Copy an entry out, compared with its CRC the first time."""
        found = self.tokens[place].clone()
        if place not in self.checked:
            if checksum(found) != self.checks[place]:
                raise CorruptLatentsError(
                    f"{self.path}: entry {place} is damaged; remove this folder and start again, "
                    "the other shards are kept"
                )
            self.checked.add(place)
        return found


class FeatureCache:
    """Read tokens by sample and version; open one with `open_features`.

    Attributes:
        unreadable: Reasons by entry, of samples that could not be read.
    """

    def __init__(self, directory: Path, key: FeatureKey) -> None:
        self._directory = directory
        self._key = key
        self._places: dict[Entry, tuple[_Shard, int]] = {}
        self.unreadable: dict[Entry, str] = {}
        for path in complete_shards(directory):
            entries, unreadable, shard = _open_shard(path, key)
            self.unreadable.update(unreadable)
            for place, entry in enumerate(entries):
                self._places[entry] = (shard, place)

    def __reduce__(self) -> tuple[Any, ...]:
        # A memory map must not be copied into a loading process: that one opens it again.
        return FeatureCache, (self._directory, self._key)

    def __contains__(self, entry: Entry) -> bool:
        return entry in self._places or entry in self.unreadable

    def read(self, sample: int, version: int) -> Tensor:
        """Return the tokens of a sample, `[V, N, D]`.

        Raises:
            CorruptLatentsError: They are not those that were written.
        """
        shard, place = self._places[sample, version]
        return shard.read(place)


def claim(directory: Path, key: FeatureKey) -> None:
    """Write the key of a new cache, or compare it with the one that is there.

    Raises:
        CorruptLatentsError: The key that is there cannot be read.
        LatentsMismatchError: The folder holds a cache of something else; says what differs.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / KEY_FILE
    if not path.exists():
        # Several processes may write it; it is the same for all.
        text = key.model_dump_json(indent=1)
        replace_file(path, lambda partial: partial.write_text(text, encoding="utf-8"))
        return
    try:
        found = FeatureKey.model_validate_json(path.read_text())
    except ValidationError as error:
        raise CorruptLatentsError(f"{path} cannot be read ({error}); remove the folder") from error
    changed = [
        f"{name} is {getattr(found, name)}, expected {getattr(key, name)}"
        for name in FeatureKey.model_fields
        if getattr(found, name) != getattr(key, name)
    ]
    if changed:
        raise LatentsMismatchError(
            f"the features in {directory} were made from something else: {'; '.join(changed)}. Name "
            "another data.cache_path, or remove this folder"
        )


class FeatureWriter:
    """Write entries into shards of one part of a cache.

    Args:
        directory: The cache.
        key: What it is made from.
        part: Number of this writer, among those that write at the same time.
        shard_bytes: A shard is finished when it has grown to this size.
    """

    _partial: Path
    _file: IO[bytes] | None
    _shape: list[int] | None
    _entries: list[list[int]]
    _unreadable: list[list[Any]]

    def __init__(
        self, directory: Path, key: FeatureKey, part: int, shard_bytes: int = SHARD_BYTES
    ) -> None:
        self._names = _free_names(directory, part)
        self._dtype = _TYPES[key.stored_type]
        self._shard_bytes = shard_bytes
        self._start()

    def add(self, entry: Entry, tokens: Tensor) -> None:
        """Add the tokens of a sample, `[V, N, D]`, alike in shape for all.

        Raises:
            LatentsMismatchError: The shape or type is another one.
        """
        if tokens.dtype != self._dtype or list(tokens.shape) != (self._shape or list(tokens.shape)):
            raise LatentsMismatchError(
                f"sample {entry[0]}: tokens {list(tokens.shape)} of {tokens.dtype} do not belong "
                f"beside {self._shape} of {self._dtype}"
            )
        stored = tokens.cpu().contiguous()
        self._shape = list(tokens.shape)
        if self._file is None:
            self._partial.mkdir(parents=True, exist_ok=True)
            self._file = (self._partial / "tokens.bin").open("wb")
        self._file.write(stored.view(torch.uint8).numpy().data)
        self._entries.append([*entry, checksum(stored)])
        if len(self._entries) * stored.nbytes >= self._shard_bytes:
            self.close()

    def add_unreadable(self, entry: Entry, reason: str) -> None:
        """Note a sample that cannot be read, with the reason."""
        self._unreadable.append([*entry, reason])

    def close(self) -> None:
        """Publish what was added by renaming it: readers see all of a shard or nothing."""
        if not self._entries and not self._unreadable:
            return
        self._partial.mkdir(parents=True, exist_ok=True)
        if self._file is not None:
            self._file.close()
        content = {"shape": self._shape, "entries": self._entries, "unreadable": self._unreadable}
        (self._partial / "entries.json").write_text(json.dumps(content))
        publish_folder(self._partial, self._partial.with_suffix(""))
        self._start()

    def _start(self) -> None:
        path = next(self._names)
        self._partial = path.with_name(path.name + ".partial")
        self._file = None
        self._shape = None
        self._entries = []
        self._unreadable = []


def _free_names(directory: Path, part: int) -> Iterator[Path]:
    """Yield folders for the shards of one part; a half-written one is removed."""
    number = 0
    while True:
        path = directory / f"shard-{part:03d}-{number:05d}"
        if not path.exists():
            shutil.rmtree(path.with_name(path.name + ".partial"), ignore_errors=True)
            yield path
        number += 1


def _open_shard(path: Path, key: FeatureKey) -> tuple[list[Entry], dict[Entry, str], _Shard]:
    try:
        content = json.loads((path / "entries.json").read_text())
        entries = [(int(sample), int(version)) for sample, version, _ in content["entries"]]
        checks = [int(check) for _, _, check in content["entries"]]
        unreadable = {(int(s), int(v)): str(reason) for s, v, reason in content["unreadable"]}
        shape = content["shape"]
        size = (path / "tokens.bin").stat().st_size if entries else 0
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CorruptLatentsError(f"{path} cannot be read ({error}); remove it") from error
    dtype = _TYPES[key.stored_type]
    if not entries:
        return entries, unreadable, _Shard(path, torch.empty(0, dtype=dtype), checks)
    expected = len(entries) * dtype.itemsize * torch.Size(shape).numel()
    if size != expected:
        raise CorruptLatentsError(
            f"{path} should hold {expected} bytes, tokens.bin has {size}; remove this folder and "
            "start again, the other shards are kept"
        )
    raw = torch.from_file(str(path / "tokens.bin"), shared=False, size=size, dtype=torch.uint8)
    return entries, unreadable, _Shard(path, raw.view(dtype).view(len(entries), *shape), checks)
