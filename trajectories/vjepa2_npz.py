"""Reader of the example trajectories of V-JEPA 2: `observations` and `states` in one `.npz`.

The file has no clock. Its steps are of the published control period, about one second of real
time, which `times_s` takes as nominal.
"""

from __future__ import annotations

import zipfile
import zlib

import numpy as np

from trajectories.cameras import ArrayCamera
from trajectories.defects import anomalies, refuse_unusable
from trajectories.episode import Episode, Provenance
from trajectories.errors import CorruptDataError
from trajectories.storage import Location

FORMAT = "vjepa2_npz"
PERIOD_S = 1.0
VIEW = "left"

# What damaged archives make numpy and its decompressor raise, and (the last two) a bare array.
_DAMAGE = (
    OSError,
    KeyError,
    ValueError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
    AttributeError,
    TypeError,
)


class NpzReader:
    """Frames uint8 `[B, T, H, W, 3]` and states `[B, T, 7]`, of B episodes.

    Raises:
        CorruptDataError: The file is none of this kind.
    """

    def __init__(self, file: Location) -> None:
        self.root = file
        try:
            with file.open() as stream, np.load(stream, allow_pickle=False) as content:
                self._frames, self._states = content["observations"], content["states"]
        except _DAMAGE as error:
            raise CorruptDataError(f"{file} is no V-JEPA 2 example trajectory: {error}") from error
        frames, states = self._frames, self._states
        if (
            frames.dtype != np.uint8
            or frames.ndim != 5
            or frames.shape[-1] != 3
            or states.shape != (*frames.shape[:2], 7)
        ):
            raise CorruptDataError(
                f"{file} holds observations {frames.dtype}{frames.shape} and states {states.shape}; "
                "expected uint8 [B, T, H, W, 3] and [B, T, 7]"
            )

    def __len__(self) -> int:
        return len(self._states)

    def open_episode(self, index: int, name: str) -> Episode:
        """One of the file's episodes.

        Raises:
            BadEpisodeError: Its states cannot be used.
        """
        states = self._states[index].astype(np.float64)
        times_s = np.arange(len(states), dtype=np.float64) * PERIOD_S
        refuse_unusable(name, states, times_s)
        return Episode(
            name=name,
            states=states,
            times_s=times_s,
            cameras={VIEW: ArrayCamera(self._frames[index])},
            clock="nominal",
            provenance=Provenance(FORMAT, f"{self.root}#{index}"),
            warnings=anomalies(states, times_s, "nominal"),
        )
