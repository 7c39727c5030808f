"""Can the encoder see motion? A probe on clips against a probe on one frame of the same clips, repeated.

Scenes are generated (`training.probes.motion`): a single frame says nothing about its class, so the second
probe can only guess, and everything the first one knows is motion. Tokens are whitened, which probes that learn
from a thousand clips need (`training.diagnostics.whitening`). Two heads are trained on some clips; the better
one on others is judged on clips that neither saw.

Letters in shapes: M clips, T frames, N tokens, D channels, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from models.config import EncoderConfig
from models.encoder import VisionTransformer
from models.preprocess import preprocess_frames
from training.config import Precision
from training.diagnostics.readout import attentive_config
from training.diagnostics.whitening import learn_whitening
from training.probes.features import FeatureEncoder
from training.probes.fitting import accuracy, fit_heads, grid, predict
from training.probes.heads import draw_heads
from training.probes.metrics import confusion_matrix, wilson_interval
from training.probes.motion import MotionConfig, MotionVideos

Seen = Literal["clip", "one frame, repeated"]

CLIP: Final = "clip"
STILL: Final = "one frame, repeated"

_RATES: Final = (1e-3, 3e-3)
_DECAYS: Final = (0.05,)
_BATCH: Final = 64
_AT_ONCE: Final = 16
_SEEDS: Final = (11, 12, 13)  # of the clips to learn from, to choose by, to judge by


@dataclass(frozen=True)
class MotionSettings:
    """How much is done.

    Attributes:
        learned: Clips to learn from.
        tuned: Clips that the best head is chosen by.
        judged: Clips that it is judged on.
        steps: Updates.
        frames: Frames of a clip; the encoder's own number at most.
        out_layers: Blocks whose tokens are read together; None: the last one's.
        precision: What the encoder computes in.
    """

    learned: int = 720
    tuned: int = 120
    judged: int = 360
    steps: int = 250
    frames: int = 8
    out_layers: tuple[int, ...] | None = None
    precision: Precision = "bf16"


@dataclass(frozen=True)
class MotionScore:
    """What a probe reaches.

    Attributes:
        eye: Whose tokens.
        seen: `clip`, or `one frame, repeated`.
        correct: Clips whose direction and speed were named.
        total: Clips that it was asked about.
        interval: 95 % interval of their share (Wilson).
        confusion: Answers by class, `[C, C]`; rows are the true classes.
        classes: Names of the motions, C.
    """

    eye: str
    seen: Seen
    correct: int
    total: int
    interval: tuple[float, float]
    confusion: Tensor
    classes: tuple[str, ...]

    @property
    def accuracy(self) -> float:
        """Share of the clips."""
        return self.correct / self.total


def judge_motion(
    eye: str, network: VisionTransformer, settings: MotionSettings, seen: Seen = CLIP
) -> MotionScore:
    """Train and judge a probe.

    Args:
        eye: What to call the encoder.
        network: The encoder.
        settings: How much.
        seen: Whether it sees clips, or a frame of each.
    """
    encoder = FeatureEncoder(network, settings.precision, settings.out_layers)
    data = _data(settings, network.config, seen)
    learn, tune, ask = (_encode(f"{eye}, {seen}", encoder, one) for one in data)
    whitening = learn_whitening(learn.tokens)
    names, width = data[0].classes, network.config.embed_dim
    heads = grid(_RATES, _DECAYS)
    probe = draw_heads(attentive_config(width), width, [len(names)], len(heads), seed=0)
    probe.to(next(network.parameters()).device)
    tokens = whitening.apply(learn.tokens)
    fit_heads(probe, tokens, learn.labels, heads, steps=settings.steps, batch_size=_BATCH)
    tuned = accuracy(predict(probe, whitening.apply(tune.tokens)), tune.labels)
    answers = predict(probe, whitening.apply(ask.tokens))[int(tuned.argmax())].argmax(dim=-1)
    correct = int((answers == ask.labels).sum())
    return MotionScore(
        eye,
        seen,
        correct,
        len(answers),
        wilson_interval(correct, len(answers)),
        confusion_matrix(ask.labels, answers, len(names)),
        names,
    )


@dataclass(frozen=True)
class _Encoded:
    """Tokens `[M, N, D]` and labels `[M]` of clips."""

    tokens: Tensor
    labels: Tensor


def _encode(what: str, encoder: FeatureEncoder, config: MotionConfig) -> _Encoded:
    videos = MotionVideos(config)
    size = encoder.network.config.img_size
    tokens, everything = [], list(range(len(videos)))
    starts = range(0, len(videos), _AT_ONCE)
    for start in track(starts, f"{what}: {len(videos)} clips"):
        frames = np.stack(
            [
                videos.open(i).read(range(config.frames))
                for i in everything[start : start + _AT_ONCE]
            ]
        )
        pixels = preprocess_frames(torch.from_numpy(frames.reshape(-1, *frames.shape[2:])), size)
        clips = pixels.reshape(len(frames), 1, config.frames, *pixels.shape[1:]).transpose(2, 3)
        tokens.append(encoder.encode(clips).cpu())  # as if they were views of one video
    return _Encoded(torch.cat(tokens), torch.tensor([videos.label(i) for i in everything]))


def _data(settings: MotionSettings, encoder: EncoderConfig, seen: Seen) -> Sequence[MotionConfig]:
    """Return the clips to learn from, to choose by and to judge by."""
    frames = min(settings.frames, encoder.num_frames)
    plain = MotionConfig(
        size_px=encoder.img_size[0],
        frames=frames - frames % encoder.tubelet_size,
        as_stills=seen == STILL,
    )
    counts = (settings.learned, settings.tuned, settings.judged)
    return [
        plain.model_copy(update={"samples": count, "seed": seed})
        for count, seed in zip(counts, _SEEDS, strict=True)
    ]
