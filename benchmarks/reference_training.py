"""The published training procedures, written out plainly: what `benchmarks.training` compares with.

Post-training keeps two encoders, of which one is never run but stands in the optimiser; encodes every
frame in every update; and cuts its mask out of one that is made for 512 frames. Pretraining sorts context
and placeholders by place and back in every forward pass, and averages weight by weight. What helps the
published code is left out as well as what hinders it: no reading of videos, no DDP.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import reference_path
from models.ac_predictor import ACPredictor
from models.encoder import VisionTransformer
from models.mask_predictor import MaskPredictor
from models.preprocess import preprocess_frames
from training.episodes import PixelWindows

LONGEST_TRAINING = 512  # frames the published mask is made for when training
_RATE = 1e-4
_MOMENTUM = 0.99925


class Posttraining:
    """Action-conditioned post-training as published.

    Args:
        encoder: The frozen encoder; copied, as the published code loads it twice.
        predictor: What is trained.
    """

    def __init__(self, encoder: VisionTransformer, predictor: ACPredictor) -> None:
        self._unused = copy.deepcopy(encoder).requires_grad_(requires_grad=True)
        self._encoder = encoder
        self._predictor = predictor
        parameters = [*self._unused.parameters(), *predictor.parameters()]
        self._optimiser = torch.optim.AdamW(parameters, lr=_RATE)

    def update(self, windows: PixelWindows) -> float:
        """Make one update; return the loss."""
        device = next(self._predictor.parameters()).device
        batch = windows.to(device)
        with torch.autocast(device.type, torch.bfloat16):
            loss = self._loss(batch)
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        return float(loss.detach())

    def _loss(self, batch: PixelWindows) -> Tensor:
        n = self._predictor.config.tokens_per_frame
        with torch.no_grad():
            pixels = preprocess_frames(batch.frames.flatten(0, 1), self._encoder.config.img_size)
            h = reference_path.encode_frames(self._encoder, pixels)
            h = h.view(len(batch.frames), -1, h.shape[-1])
        actions, states = batch.actions, batch.states
        z_tf = self._predict(h[:, :-n], actions, states[:, :-1])
        z = torch.cat([h[:, :n], z_tf[:, :n]], dim=1)
        z = torch.cat([z, self._predict(z, actions[:, :2], states[:, :2])[:, -n:]], dim=1)
        z_ar = z[:, n:]
        return F.l1_loss(z_tf, h[:, n:]) + F.l1_loss(z_ar, h[:, n : n + z_ar.shape[1]])

    def _predict(self, z: Tensor, actions: Tensor, states: Tensor) -> Tensor:
        return reference_path.predict_frames(self._predictor, z, actions, states, LONGEST_TRAINING)


class Pretraining:
    """Masked pretraining as published, with masks that are given.

    Args:
        encoder: What is trained.
        predictor: What is trained with it.
    """

    def __init__(self, encoder: VisionTransformer, predictor: MaskPredictor) -> None:
        self._encoder = encoder
        self._predictor = predictor
        self._target = copy.deepcopy(encoder).requires_grad_(requires_grad=False)
        parameters = [*encoder.parameters(), *predictor.parameters()]
        self._optimiser = torch.optim.AdamW(parameters, lr=_RATE)

    def update(self, clip: Tensor, keep: list[Tensor], hidden: list[Tensor]) -> float:
        """Make one update; return the loss."""
        with torch.autocast(clip.device.type, torch.bfloat16):
            with torch.no_grad():
                h = reference_path.encode(self._target, clip)
                h = F.layer_norm(h, h.shape[-1:])
            losses = []
            for visible, missing in zip(keep, hidden, strict=True):
                context = reference_path.encode_visible(self._encoder, clip, visible)
                z = reference_path.fill_in(self._predictor, context, visible, missing)
                wanted = h.gather(1, missing.unsqueeze(-1).expand(-1, -1, h.shape[-1]))
                losses.append(F.l1_loss(z, wanted))
            loss = torch.stack(losses).mean()
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        with torch.no_grad():
            for old, new in zip(self._target.parameters(), self._encoder.parameters(), strict=True):
                old.data.mul_(_MOMENTUM).add_((1.0 - _MOMENTUM) * new.data)
        return float(loss.detach())
