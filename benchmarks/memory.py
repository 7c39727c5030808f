"""How much memory a piece of work takes at most: of the process on a CPU, of tensors on a GPU."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

import torch

_PROCESS = Path("/proc/self")


def reset_peak() -> int:
    """Forget the largest memory so far, and return what is in use [bytes]."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)  # what was freed before counts as free
    (_PROCESS / "clear_refs").write_text("5")  # resets VmHWM
    return _status("VmRSS")


def peak() -> int:
    """Return the largest memory since `reset_peak` [bytes]."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    return _status("VmHWM")


def _status(name: str) -> int:
    lines = (_PROCESS / "status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
