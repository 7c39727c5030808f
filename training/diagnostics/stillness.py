"""Does time show in the tokens, and does nothing move where nothing moves?

Collapse: tokens that are all alike, or alike over time, tell a planner nothing (`training.collapse`).
Static scenes: an encoder should see less change where the arm rests than where it moves, and a world model
that is told to do nothing should predict what is there already.

Letters in shapes: B clips or frames, T frames, N tokens, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from models.config import EncoderConfig
from models.readouts import encode_clip
from models.world_model import WorldModel
from training.collapse import temporal_diversity, token_rank, token_std
from training.diagnostics.runs import Run, Seen
from training.diagnostics.subject import Subject
from trajectories.replay.statistics import Estimate, estimate

MOVING_M: Final = 0.02  # from row to row; the hand has left its place in the picture
RESTING_M: Final = 0.003
_CLIPS: Final = 24
_DRIFT_STEPS: Final = 4
_AT_ONCE: Final = 16


@dataclass(frozen=True)
class Collapse:
    """How much one encoder tells apart.

    Attributes:
        eye: Whose tokens.
        std: Mean standard deviation of a channel over frames and places; layer-normed tokens that
            share nothing have 1.
        directions: How many directions they use (effective rank).
        channels: How many there could be.
        diversity: Change of tokens over the tubelets of recorded clips, over their distance to others.
        diversity_still: The same for clips of one frame, repeated: what time alone does.
    """

    eye: str
    std: float
    directions: float
    channels: int
    diversity: float | None
    diversity_still: float | None


@dataclass(frozen=True)
class Change:
    """How much tokens change from row to row.

    Attributes:
        eye: Whose tokens.
        moving: Where the arm moves by 2 cm or more; mean absolute difference.
        resting: Where it moves by 3 mm or less.
    """

    eye: str
    moving: Estimate
    resting: Estimate


@dataclass(frozen=True)
class Drift:
    """What a world model does to a scene in which nothing is done.

    Attributes:
        steps: Control periods that nothing was done for.
        error: Mean absolute difference of the predicted tokens from the present ones.
    """

    steps: int
    error: Estimate


def judge_collapse(eye: str, subject: Subject, seen: Seen) -> Collapse:
    """Measure spread and rank of frames, and how clips change over time.

    Args:
        eye: What to call it.
        subject: Its encoder sees the clips.
        seen: Frames that it saw.
    """
    tokens = torch.cat(list(seen.tokens))
    moving, still = _clip_diversity(subject, seen.runs)
    return Collapse(
        eye,
        float(token_std(tokens)),
        float(token_rank(tokens)),
        tokens.shape[-1],
        moving,
        still,
    )


def judge_change(eye: str, seen: Seen) -> Change:
    """Compare steps on which the arm moves with those on which it rests."""
    distances, changes, names = [], [], []
    for run, tokens in zip(seen.runs, seen.tokens, strict=True):
        distances.append(np.linalg.norm(np.diff(run.positions_m, axis=0), axis=1))
        changes.append((tokens[1:] - tokens[:-1]).abs().mean(dim=(1, 2)).double().numpy())
        names += [run.name] * len(distances[-1])
    distance, change = np.concatenate(distances), np.concatenate(changes)
    return Change(
        eye,
        estimate(np.where(distance >= MOVING_M, change, np.nan), names),
        estimate(np.where(distance <= RESTING_M, change, np.nan), names),
    )


@torch.no_grad()
def judge_drift(model: WorldModel, seen: Seen) -> list[Drift]:
    """Let a world model imagine that nothing is done, from the first frame of every run."""
    device = next(model.parameters()).device
    now = torch.stack([tokens[0] for tokens in seen.tokens])
    states = torch.from_numpy(np.stack([run.states[0] for run in seen.runs])).float()
    rolled = []
    for tokens, state in zip(
        torch.split(now, _AT_ONCE), torch.split(states, _AT_ONCE), strict=True
    ):
        nothing = torch.zeros(len(tokens), _DRIFT_STEPS, 7, device=device)
        rolled.append(model.rollout(tokens.to(device), state.to(device), nothing)[0].cpu())
    errors = (torch.cat(rolled) - now.unsqueeze(1)).abs().mean(dim=(2, 3)).double().numpy()
    names = [run.name for run in seen.runs]
    return [Drift(step + 1, estimate(errors[:, step], names)) for step in range(_DRIFT_STEPS)]


def _clip_diversity(subject: Subject, runs: Sequence[Run]) -> tuple[float | None, float | None]:
    """Return the temporal diversity of recorded clips, and of clips of one frame repeated."""
    config = subject.encoder.config
    if not isinstance(config, EncoderConfig):
        return None, None  # it sees images, one by one
    length = min(config.num_frames, *(len(run.frames) for run in runs))
    length -= length % config.tubelet_size
    tubelets = length // config.tubelet_size
    if tubelets < 2:
        return None, None
    clips = [run.frames[:length] for run in runs[:_CLIPS]]
    stills = [clip[:1].expand(length, -1, -1, -1) for clip in clips]
    moving, still = (
        temporal_diversity(_encode(subject, group), tubelets) for group in (clips, stills)
    )
    return float(moving), float(still)


def _encode(subject: Subject, clips: list[Tensor]) -> Tensor:
    return torch.stack(
        [encode_clip(subject.encoder, clip, subject.geometry).cpu() for clip in clips]
    )
