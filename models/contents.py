"""What a checkpoint holds, whoever wrote it: networks under plain parameter names, and their origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from models.config import EncoderConfig, WorldModelConfig
from models.errors import CorruptCheckpointError
from models.weights import State

Layout = Literal["ours", "published", "huggingface"]
EncoderKey = Literal["encoder", "target_encoder", "ema_encoder"]

ENCODER_KEYS: tuple[EncoderKey, ...] = ("ema_encoder", "target_encoder", "encoder")
"""Where an encoder may be, the one to prefer for features first: averaged weights before online
ones, as the published evaluations do (arXiv 2506.09985, section 2.2)."""


@dataclass(frozen=True)
class Contents:
    """An opened checkpoint. Its tensors are read when they are asked for.

    Attributes:
        source: File or folder, for messages.
        layout: Who wrote it: this package, facebookresearch/vjepa2 (and jepa-wms), transformers.
        networks: Tensors of each network under plain names, by the checkpoint's name for it.
        config: The configuration that the checkpoint itself carries.
        prefixes: What was stripped from the parameter names of each network.
        harmless: Entries that were left out because they mean nothing here.
        metadata: Plain values beside the networks: training step, origin.
    """

    source: str
    layout: Layout
    networks: Mapping[str, State]
    config: WorldModelConfig | EncoderConfig | None = None
    prefixes: Mapping[str, str] = field(default_factory=dict)
    harmless: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def network(self, key: str) -> State:
        """Return one network's tensors.

        Raises:
            CorruptCheckpointError: There is no such network.
        """
        if key not in self.networks:
            raise CorruptCheckpointError(
                f"{self.source} has no network {key!r}; it has {sorted(self.networks)}"
            )
        return self.networks[key]

    def encoder_key(self) -> EncoderKey:
        """Return which of the encoders to use for features; see `ENCODER_KEYS`.

        Raises:
            CorruptCheckpointError: There is no encoder at all.
        """
        found = [key for key in ENCODER_KEYS if key in self.networks]
        if not found:
            raise CorruptCheckpointError(
                f"{self.source} has no encoder; it has {sorted(self.networks)}, expected one of "
                f"{sorted(ENCODER_KEYS)}"
            )
        return found[0]
