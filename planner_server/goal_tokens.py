"""The goals' tokens: encoded from the images when they are needed, kept by content, made into planning's goals."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable

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
        most: Images kept, and as many masks; what was not used for longest is forgotten and made again when it is
            needed.
    """

    def __init__(self, model: ServedModel, most: int) -> None:
        self._model = model
        self._tokens = _Kept(most)
        self._masks = _Kept(most)

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
        def encode() -> Tensor:
            frame = decode_image(image.data, "goal") if isinstance(image, GoalImage) else image
            return self._model.encode(frame[None])[0]

        return self._tokens.get(sha256, encode)

    def _mask(self, sub_goal: SubGoal) -> Tensor | None:
        """Return which tokens count, `[N]`: the patches that region and mask cover by half."""
        region, image, mask = sub_goal.rules.region, sub_goal.images[0], sub_goal.mask
        if region is None and mask is None:
            return None
        # Of the image itself only the shape matters.
        shown = (image.height, image.width) if mask is None else mask.sha256
        return self._masks.get((shown, region), lambda: self._covered(_white(sub_goal)))

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


class _Kept:
    """The tensors that were used last.

    Args:
        most: How many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._tensors: OrderedDict[Hashable, Tensor] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Tensor]) -> Tensor:
        """Return what is kept as `key`, made now where it is not."""
        tensor = self._tensors.pop(key, None)
        if tensor is None:
            tensor = make()
        self._tensors[key] = tensor
        if len(self._tensors) > self._most:
            self._tensors.popitem(last=False)
        return tensor


def _white(sub_goal: SubGoal) -> Frame:
    """Return a picture `[H, W, 3]` that is bright where the goal counts."""
    region, image = sub_goal.rules.region, sub_goal.images[0]
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
    return picture


def digest_of(image: Frame) -> str:
    """Return the SHA-256 of an image's pixels and shape, in hexadecimal."""
    height, width = image.shape[:2]
    return hashlib.sha256(f"{height}x{width}:".encode() + image.tobytes()).hexdigest()
