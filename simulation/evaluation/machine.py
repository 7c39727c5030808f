"""The name of the processors, as results carry it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_CPU_INFO = Path("/proc/cpuinfo")


def processors() -> str:
    """Return the number and name of the processors."""
    name = platform.machine()
    if _CPU_INFO.exists():
        lines = (line.partition(":") for line in _CPU_INFO.read_text().splitlines())
        name = next((value.strip() for key, _, value in lines if "model name" in key), name)
    return f"{os.cpu_count()} x {name}"
