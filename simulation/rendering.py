"""Camera frames of the workcell, without a display.

One OpenGL context serves any number of workcells: they all carry the same meshes and textures,
which are uploaded once. A context belongs to the thread that made it.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from simulation.errors import RenderingError
from simulation.furnishing import CAMERA_NAME

FRAME_SIZE = (256, 256)
_MAX_GEOMS = 200


class FrameRenderer:
    """Renders the exterior camera as uint8 RGB `[256, 256, 3]`; use it from one thread only."""

    def __init__(self) -> None:
        height, width = FRAME_SIZE
        try:
            self._gl: Any = mujoco.GLContext(width, height)
            self._gl.make_current()
        except Exception as error:
            raise _unusable(error) from error
        self._viewport = mujoco.MjrRect(0, 0, width, height)
        self._option = mujoco.MjvOption()
        self._perturbation = mujoco.MjvPerturb()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._uploaded: bytes | None = None
        self._model: Any = None
        self._context: Any = None
        self._scene: Any = None

    def render(self, model: Any, data: Any) -> NDArray[np.uint8]:
        """Return the frame of `data`, whose kinematics must be up to date (`mj_forward`)."""
        self._gl.make_current()
        if model is not self._model:
            self._bind(model)
        mujoco.mjv_updateScene(
            model,
            data,
            self._option,
            self._perturbation,
            self._camera,
            mujoco.mjtCatBit.mjCAT_ALL,
            self._scene,
        )
        mujoco.mjr_render(self._viewport, self._scene, self._context)
        frame = np.empty((*FRAME_SIZE, 3), np.uint8)
        mujoco.mjr_readPixels(frame, None, self._viewport, self._context)
        return np.ascontiguousarray(frame[::-1])

    def close(self) -> None:
        """Release the OpenGL context."""
        self._gl.make_current()
        self._scene = self._context = self._model = None
        self._gl.free()

    def _bind(self, model: Any) -> None:
        fingerprint = b"".join((model.mesh_vert.tobytes(), model.tex_data.tobytes()))
        if fingerprint != self._uploaded:
            try:
                self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
            except mujoco.FatalError as error:
                raise _unusable(error) from error
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
            self._uploaded = fingerprint
        self._scene = mujoco.MjvScene(model, maxgeom=_MAX_GEOMS)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        self._camera.fixedcamid = model.camera(CAMERA_NAME).id
        self._model = model


def _unusable(error: Exception) -> RenderingError:
    backend = os.environ.get("MUJOCO_GL", "unset")
    return RenderingError(
        f"OpenGL is unusable with MUJOCO_GL={backend} ({error}); install libegl1 or libosmesa6 and "
        "leave MUJOCO_GL unset, and import `simulation` before `mujoco`"
    )


_per_thread = threading.local()


def thread_renderer() -> FrameRenderer:
    """Return this thread's renderer, made on first use."""
    renderer: FrameRenderer | None = getattr(_per_thread, "renderer", None)
    if renderer is None:
        renderer = _per_thread.renderer = FrameRenderer()
    return renderer
