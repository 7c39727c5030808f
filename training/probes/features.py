"""The frozen encoder as probes see it: clips in, tokens out, always in the same way.

Every sample is encoded by itself, so that its tokens do not depend on what else is in a batch, on
the number of processes, or on whether they come from a cache: they are the same to the last bit.

Letters in shapes: M samples, V views, S segments, T frames, N tokens, D channels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from rich.progress import track
from torch import Tensor

from models.checkpoint import load_encoder, open_checkpoint
from models.config import MaskPredictorConfig
from models.encoder import VisionTransformer
from models.mask_predictor import MaskPredictor
from models.readouts import with_anticipated_tokens
from models.weights import frozen, load_strictly, on_meta
from training.config import Precision
from training.errors import ConfigurationError, DataError
from training.latents import FrameEncoder
from training.probes.samples import LabelledVideos, VideoSamples
from training.probes.views import ClipConfig
from trajectories.errors import TrajectoryError

UNREADABLE: Final = (DataError, TrajectoryError, OSError, ValueError)
"""What reading a sample may raise; anything else is a mistake of ours."""


@dataclass(frozen=True)
class FeatureEncoder:
    """A frozen encoder and how it is asked.

    Attributes:
        network: The encoder, on its device.
        precision: `bf16` computes and keeps tokens in bfloat16, `fp32` in float32.
        out_layers: Blocks whose tokens are put one after the other; None: the last one's.
        predictor: Adds the tokens that it expects to see in the future, where samples ask.
        fps: Frames per second of the clips, for the predictor [1/s].
    """

    network: VisionTransformer
    precision: Precision = "fp32"
    out_layers: tuple[int, ...] | None = None
    predictor: MaskPredictor | None = None
    fps: float = 8.0

    @property
    def dtype(self) -> torch.dtype:
        """Type of the tokens."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    @torch.no_grad()
    def encode(self, clips: Tensor, ahead_s: float | None = None) -> Tensor:
        """Encode the clips of one sample, each by itself.

        Args:
            clips: float `[V, S, 3, T, H, W]`.
            ahead_s: How far the future lies that the predictor shall add [s]; None: nothing.

        Returns:
            Tokens of every view, those of its segments (and levels) one after the other,
            `[V, S * N, D]`, on the encoder's device.

        Raises:
            ConfigurationError: The future is asked for, and there is no predictor.
        """
        device = next(self.network.parameters()).device
        flat = clips.flatten(0, 1).to(device)
        layers = self.out_layers or (self.network.config.depth - 1,)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            tokens = torch.cat(self.network.levels(flat, layers), dim=1)
            if ahead_s is not None:
                tokens = self._with_future(tokens, ahead_s)
        return torch.unflatten(tokens.to(self.dtype), 0, clips.shape[:2]).flatten(1, 2)

    def sha256(self) -> str:
        """Return a hash of all weights, and of how the encoder is asked."""
        text = f"{FrameEncoder(self.network).sha256()} {self.precision} {self.out_layers}"
        digest = hashlib.sha256(text.encode())
        if self.predictor is not None:
            digest.update(f"{self.predictor.config.model_dump_json()} {self.fps}".encode())
            for name, value in sorted(self.predictor.state_dict().items()):
                digest.update(name.encode())
                digest.update(value.cpu().float().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _with_future(self, tokens: Tensor, ahead_s: float) -> Tensor:
        if self.predictor is None:
            raise ConfigurationError("the future is asked for, and the encoder has no predictor")
        return with_anticipated_tokens(
            self.network.config, self.predictor, tokens, ahead_s, self.fps
        )


@dataclass(frozen=True)
class Features:
    """Tokens of videos in memory.

    Attributes:
        tokens: `[M, V, N, D]`, on the CPU.
        labels: `[M]`.
        names: Of the videos.
        unreadable: Videos that were left out, each with the reason.
    """

    tokens: Tensor
    labels: Tensor
    names: tuple[str, ...]
    unreadable: tuple[str, ...]


def extract(
    encoder: FeatureEncoder, videos: LabelledVideos, clips: ClipConfig, *, quiet: bool = False
) -> Features:
    """Encode videos as evaluation sees them, and keep the tokens in memory.

    Raises:
        ConfigurationError: The encoder cannot take such clips.
        DataError: No video can be read.
    """
    samples = VideoSamples(videos, clips, clips.side_px(encoder.network.config))
    tokens, labels, names, unreadable = [], [], [], []
    for index in track(range(len(samples)), "encoding videos", disable=quiet):
        try:
            sample = samples.read(index, None)
        except UNREADABLE as error:
            unreadable.append(f"{samples.name(index)}: {error}")
            continue
        tokens.append(encoder.encode(sample.clips).cpu())
        labels.append(samples.labels(index)[0])
        names.append(samples.name(index))
    if not tokens:
        raise DataError(f"none of {len(samples)} videos can be read, the first: {unreadable[:1]}")
    return Features(torch.stack(tokens), torch.tensor(labels), tuple(names), tuple(unreadable))


def load_features(
    source: str,
    device: torch.device,
    precision: Precision,
    out_layers: tuple[int, ...] | None = None,
    *,
    predictor: MaskPredictorConfig | bool = False,
    fps: float = 8.0,
) -> FeatureEncoder:
    """Load a frozen encoder, and the predictor that it was pretrained with, if asked.

    Args:
        source: Anything that `models.checkpoint` opens.
        device: Where to compute.
        precision: See `FeatureEncoder`, as for the rest.
        out_layers: Levels.
        predictor: What the predictor looks like; True: as the checkpoint says, or as published.
        fps: Frames per second of the clips.

    Raises:
        ConfigurationError: There are no such blocks, or there is no predictor.
        ModelError: The weights are missing, damaged or of another kind.
    """
    network = load_encoder(source, device=device)
    depth = network.config.depth
    if out_layers is not None and not set(out_layers) <= set(range(depth)):
        raise ConfigurationError(
            f"out_layers {list(out_layers)}: the encoder has blocks 0 to {depth - 1}"
        )
    loaded = None
    if predictor is not False:
        loaded = _load_predictor(source, network, predictor, device)
    return FeatureEncoder(network, precision, out_layers, loaded, fps)


def _load_predictor(
    source: str,
    network: VisionTransformer,
    config: MaskPredictorConfig | bool,  # noqa: FBT001  True: find out
    device: torch.device,
) -> MaskPredictor:
    contents = open_checkpoint(source)
    state = contents.networks.get("predictor", {})
    if "mask_tokens.0" not in state:
        raise ConfigurationError(
            f"anticipation needs the predictor that the encoder was pretrained with, and {source} "
            f"has none; it has {', '.join(sorted(contents.networks))}"
        )
    if isinstance(config, bool):
        config = _predictor_config(contents.metadata, network)
    found = on_meta(partial(MaskPredictor, config))
    load_strictly(found, state, f"'predictor' in {source}", device)
    return frozen(found)


def _predictor_config(
    metadata: Mapping[str, Any], network: VisionTransformer
) -> MaskPredictorConfig:
    """Return what a pretraining of ours noted, or the published configuration."""
    recipe = metadata.get("recipe", {})
    if "predictor" in recipe:
        return MaskPredictorConfig.model_validate(recipe["predictor"])
    config = network.config
    return MaskPredictorConfig(grid_size=config.grid_size, embed_dim=config.embed_dim)
