"""The name of what a benchmark ran on, as its results carry it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

_CPU_INFO = Path("/proc/cpuinfo")


def hardware() -> str:
    """Return the GPU's name, or the number and name of the processors."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    name = platform.machine()
    if _CPU_INFO.exists():
        lines = (line.partition(":") for line in _CPU_INFO.read_text().splitlines())
        name = next((value.strip() for key, _, value in lines if "model name" in key), name)
    return f"{os.cpu_count()} x {name}"
