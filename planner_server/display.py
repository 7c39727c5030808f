"""What people are shown of a plan: the frame in small, where it differs from the goal, what was tried."""

from __future__ import annotations

import math

import cv2
import numpy as np
from torch import Tensor

from planner_server.plan_request import Cloud, Display, Frame
from planner_server.planning import Candidates, Plan

_THUMBNAIL_PX = 160
_THUMBNAIL_QUALITY = 80
_SHOWN_CANDIDATES = 64


def display_of(
    plan: Plan, frame: Frame, tokens: Tensor, goal: Tensor, grid: tuple[int, int]
) -> Display:
    """Return what is shown of a plan.

    Args:
        plan: The plan, with the candidates that were tried.
        frame: What it was made for, uint8 RGB `[H, W, 3]`.
        tokens: The frame's tokens `[N, D]`.
        goal: The goal's tokens `[N, D]`.
        grid: Rows and columns of the N patches.
    """
    heat = (tokens - goal).abs().mean(dim=-1)
    return Display(
        thumbnail=thumbnail(frame),
        heat=heat.reshape(grid).tolist(),
        iterations=[_cloud(candidates) for candidates in plan.candidates],
    )


def _cloud(candidates: Candidates) -> Cloud:
    """Return a sample of at most 64: half of it the best, half of it spread over the rest."""
    order = np.argsort(candidates.energies, kind="stable")
    half = _SHOWN_CANDIDATES // 2
    best, rest = order[:half], order[half:]
    shown = np.concatenate([best, rest[:: max(1, math.ceil(len(rest) / half))]])
    shown = shown[np.isfinite(candidates.energies[shown])]
    return Cloud(candidates.actions[shown, 0].tolist(), candidates.energies[shown].tolist())


def thumbnail(frame: Frame) -> bytes:
    """Return a frame as a small JPEG file, its longer side 160 px."""
    scale = min(1.0, _THUMBNAIL_PX / max(frame.shape[:2]))
    size = (max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale)))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    quality = [cv2.IMWRITE_JPEG_QUALITY, _THUMBNAIL_QUALITY]
    return bytes(cv2.imencode(".jpg", small[..., ::-1], quality)[1].tobytes())
