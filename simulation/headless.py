"""Choice of MuJoCo's OpenGL back end on machines without a display."""

from __future__ import annotations

import ctypes
import os
import sys

_CANDIDATES = (
    ("egl", ("libEGL.so.1", "libEGL.so")),
    ("osmesa", ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so")),
)


def select_gl_backend() -> str | None:
    """Set `MUJOCO_GL` to the first usable headless back end unless the user has chosen one.

    Returns:
        The value in force, or None when no headless library is installed and MuJoCo falls back
        to its windowed default. Later calls change nothing: MuJoCo reads the variable when it is
        imported.
    """
    chosen = os.environ.get("MUJOCO_GL")
    if chosen or "mujoco" in sys.modules:
        return chosen
    for backend, libraries in _CANDIDATES:
        if any(_is_loadable(library) for library in libraries):
            os.environ["MUJOCO_GL"] = backend
            return backend
    return None


def _is_loadable(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
