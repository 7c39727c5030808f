"""V-JEPA pretraining: predict the tokens of masked regions, in the space of an averaged encoder.

The objective of arXiv 2506.09985, equation 1: the encoder sees a masked clip, the predictor fills
in the masked tokens, and the L1 distance to the layer-normed tokens of an exponential moving
average of the encoder is minimised.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from models.encoder import VisionTransformer
from models.mask_predictor import MaskPredictor
from models.preprocess import preprocess_frames
from training.config import PretrainConfig
from training.masks import PUBLISHED_MASKS, sample_masks
from training.optimiser import Optimiser
from training.progress import RunLog
from training.schedules import linear
from trajectories.shards import ShardSet

ENCODER_FILE = "encoder.safetensors"


def pretrain(config: PretrainConfig, data: ShardSet, output: Path) -> VisionTransformer:
    """Train an encoder and write its averaged weights to `output/encoder.safetensors`.

    Returns:
        The averaged (target) encoder, frozen.
    """
    torch.manual_seed(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    encoder = VisionTransformer(config.encoder)
    predictor = MaskPredictor(config.predictor)
    target = copy.deepcopy(encoder).requires_grad_(requires_grad=False).eval()
    optimiser = Optimiser([encoder, predictor], config.optimiser)
    steps = config.optimiser.steps
    with RunLog(output, "pretraining", steps) as log:
        for step in range(steps):
            clip = sample_clips(config, data, still=step % 2 == 1, generator=generator)
            with torch.autocast("cpu", torch.bfloat16):
                loss, spread = masked_prediction_loss(encoder, predictor, target, clip, generator)
            optimiser.step(loss, step)
            average_into(target, encoder, linear(step, steps, *config.momentum))
            log.update(step, loss=float(loss.detach()), token_std=float(spread))
    output.mkdir(parents=True, exist_ok=True)
    save_file(target.state_dict(), output / ENCODER_FILE)
    return target


def sample_clips(
    config: PretrainConfig, data: ShardSet, *, still: bool, generator: torch.Generator
) -> Tensor:
    """Draw a batch of clips `[B, 3, T, H, W]`, or of stills repeated to one tubelet.

    A still batch holds as many frames as a clip batch, so that both cost the same.
    """
    batch = config.optimiser.batch_size
    tubelet = config.encoder.tubelet_size
    length = 1 if still else config.clip_frames
    count = batch * config.clip_frames // tubelet if still else batch
    episodes = torch.randint(0, len(data), (count,), generator=generator).tolist()
    starts = torch.randint(
        0, data.episode_length - length + 1, (count,), generator=generator
    ).tolist()
    frames = torch.stack(
        [
            torch.from_numpy(data.frames(episode)[start : start + length].copy())
            for episode, start in zip(episodes, starts, strict=True)
        ]
    )
    pixels = preprocess_frames(frames.flatten(0, 1), config.encoder.img_size)
    clip = pixels.view(count, length, *pixels.shape[1:]).transpose(1, 2)
    return clip.expand(-1, -1, tubelet, -1, -1) if still else clip


def masked_prediction_loss(
    encoder: VisionTransformer,
    predictor: MaskPredictor,
    target: VisionTransformer,
    clip: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return the L1 prediction loss over all mask families, and the spread of the target tokens.

    The spread is the standard deviation of the raw target tokens over the batch; when it falls
    towards zero the encoder has collapsed.
    """
    batch, _, frames, height, width = clip.shape
    config = encoder.config
    grid = (frames // config.tubelet_size, height // config.patch_size, width // config.patch_size)
    with torch.no_grad():
        raw = target(clip)
        goal = F.layer_norm(raw.float(), (raw.shape[-1],))
    losses = []
    for index, mask in enumerate(PUBLISHED_MASKS):
        keep, hidden = sample_masks(mask, batch, grid, generator)
        context = encoder(clip, masks=[keep])
        predicted = predictor(context, [keep], [hidden], mask_index=index)
        wanted = goal.gather(1, hidden.unsqueeze(-1).expand(-1, -1, goal.shape[-1]))
        losses.append(F.l1_loss(predicted.float(), wanted))
    return torch.stack(losses).mean(), raw.float().std(dim=0).mean()


@torch.no_grad()
def average_into(target: VisionTransformer, encoder: VisionTransformer, momentum: float) -> None:
    """Move the target's weights towards the encoder's: theta' = m theta' + (1 - m) theta."""
    averages = [parameter.data for parameter in target.parameters()]
    torch._foreach_lerp_(averages, [p.data for p in encoder.parameters()], 1.0 - momentum)
