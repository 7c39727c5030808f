"""The goals' tokens: encoded from the images when they are needed, kept by content, made into planning's goals."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.preprocess import preprocess_frames
from planner_server.errors import PlannerError
from planner_server.goals import GoalImage, SubGoal
from planner_server.images import decode_image
from planner_server.plan_request import Frame
from planner_server.planning import Goal
from planner_server.served_model import ServedModel

_HALF_COVERED = 0.5


class GoalTokens:
    """Tokens of goal images; used by the worker's thread only.

    Args:
        model: Encodes.
        most: Images kept; the one not used for longest is forgotten and encoded again when it is needed.
    """

    def __init__(self, model: ServedModel, most: int) -> None:
        self._model = model
        self._most = most
        self._tokens: OrderedDict[str, Tensor] = OrderedDict()

    def add(self, image: Frame, sha256: str) -> None:
        """Encode an image `[H, W, 3]` unless its tokens are known."""
        self._get(sha256, image)

    def goal(self, sub_goal: SubGoal) -> Goal:
        """Return a sub-goal as the planner wants it.

        Raises:
            PlannerError: `invalid_request`, when the region of interest covers no patch.
        """
        tokens = [self._get(image.sha256, image) for image in sub_goal.images]
        rules = sub_goal.rules
        like = tokens[0]
        states = None
        if rules.state is not None:
            states = torch.tensor([rules.state] * len(tokens), dtype=like.dtype)
        return Goal(
            tokens=torch.stack(tokens),
            weights=None if rules.weights is None else like.new_tensor(rules.weights),
            token_mask=self._mask(sub_goal),
            states=None if states is None else states.to(like.device),
        )

    def _get(self, sha256: str, image: GoalImage | Frame) -> Tensor:
        tokens = self._tokens.pop(sha256, None)
        if tokens is None:
            frame = decode_image(image.data, "goal") if isinstance(image, GoalImage) else image
            tokens = self._model.encode(frame[None])[0]
        self._tokens[sha256] = tokens
        if len(self._tokens) > self._most:
            self._tokens.popitem(last=False)
        return tokens

    def _mask(self, sub_goal: SubGoal) -> Tensor | None:
        """Return which tokens count, `[N]`: the patches that region and mask cover by half."""
        region, image = sub_goal.rules.region, sub_goal.images[0]
        if region is None and sub_goal.mask is None:
            return None
        if sub_goal.mask is not None:
            picture = decode_image(sub_goal.mask.data, "mask")
        else:
            picture = np.full((image.height, image.width, 3), 255, np.uint8)
        if region is not None:
            height, width = picture.shape[:2]
            left, top, right, bottom = (
                round(f * side) for f, side in zip(region, (width, height) * 2, strict=True)
            )
            outside = np.ones((height, width), bool)
            outside[top:bottom, left:right] = False
            picture[outside] = 0
        return self._covered(picture)

    def _covered(self, picture: Frame) -> Tensor:
        """Bring a white-on-black picture to the patches with the very geometry that frames have."""
        model = self._model.world_model
        frames = torch.from_numpy(np.stack([picture, np.zeros_like(picture)]))
        pixels = preprocess_frames(frames, model.frame_size, model.config.frame_geometry)
        white = preprocess_frames(
            torch.full_like(frames[:1], 255), model.frame_size, model.config.frame_geometry
        )
        share = ((pixels[:1] - pixels[1:]) / (white - pixels[1:]))[:, :1]
        mask = F.adaptive_avg_pool2d(share, self._model.grid).flatten() >= _HALF_COVERED
        if not bool(mask.any()):
            raise PlannerError(
                "invalid_request",
                "the region of interest covers half of no patch that the model sees (it looks at the centre square "
                f"of the image, in {self._model.grid[0]} x {self._model.grid[1]} patches); enlarge it",
            )
        return mask.to(self._model.device)


def digest_of(image: Frame) -> str:
    """Return the SHA-256 of an image's pixels and shape, in hexadecimal."""
    height, width = image.shape[:2]
    return hashlib.sha256(f"{height}x{width}:".encode() + image.tobytes()).hexdigest()
