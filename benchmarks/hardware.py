"""The name of what a benchmark ran on, as its results carry it."""

from __future__ import annotations

import torch

from simulation.evaluation.machine import processors


def hardware() -> str:
    """Return the GPU's name, or the number and name of the processors."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else processors()
