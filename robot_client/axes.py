"""The planner's axes seen through one camera: fitted once per camera, applied to every plan.

A world model that was trained with other camera positions infers displacements that are turned about
the vertical with the camera (arXiv 2506.09985, section 4.3 and its limitations). A few known small
moves show by how much. `turn` brings a planned displacement back into the robot's base frame.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from robot_client.errors import RecordingError
from robot_client.protocol import Act
from trajectories import poses

Matrix = npt.NDArray[np.float64]

_RESAMPLES = 400
_LEAST_MOVE_M = 1e-4


@dataclass(frozen=True, eq=False)
class Axes:
    """How to turn what the planner infers into what the arm should do.

    Attributes:
        matrix: [3, 3]; inferred displacement to displacement in the base frame.
        angle_rad: Turn of the planar part about the vertical, for people.
        angle_std_rad: Its uncertainty, from resampling the moves.
        error_before_m: Root mean square of inferred minus commanded displacement.
        error_after_m: The same with the correction.
        moves: Moves it was fitted on.
        camera: Name of the camera.
    """

    matrix: Matrix
    angle_rad: float
    angle_std_rad: float
    error_before_m: float
    error_after_m: float
    moves: int
    camera: str = ""

    def turn(self, action: Matrix) -> Matrix:
        """Turn the displacement of actions [..., 7] into the base frame; the rest stays."""
        turned = np.array(action, np.float64)
        turned[..., poses.POSITION] = turned[..., poses.POSITION] @ self.matrix.T
        return turned

    def correct(self, act: Act) -> Act:
        """A plan with its actions turned."""
        return dataclasses.replace(act, actions=self.turn(act.actions))

    def save(self, path: Path) -> None:
        """Write the correction as JSON.

        Raises:
            RecordingError: It cannot be written.
        """
        values = {**dataclasses.asdict(self), "matrix": self.matrix.tolist()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise RecordingError(f"cannot write {path}: {error.strerror}") from error

    @classmethod
    def load(cls, path: Path) -> "Axes":
        """Read a correction.

        Raises:
            RecordingError: It is not there or no correction.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            matrix = np.array(values.pop("matrix"), np.float64)
            axes = cls(matrix=matrix, **values)
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            text = f"{path} is no axes calibration ({error}); make one with `robot-client calibrate-axes`"
            raise RecordingError(text) from error
        if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
            raise RecordingError(f"{path}: the matrix must be 3 x 3 and finite, not {matrix.shape}")
        return axes


def fit_axes(commanded_m: Matrix, inferred_m: Matrix, camera: str, *, full: bool) -> Axes:
    """Fit the correction that makes inferred displacements agree with the commanded ones.

    Args:
        commanded_m: What the arm did, base frame [n, 3].
        inferred_m: What the planner inferred from the frames before and after [n, 3].
        camera: Name to store.
        full: Fit any 3 x 3 matrix by least squares (4 moves or more along all axes) instead of a
            turn about the vertical.

    Raises:
        RecordingError: Too few moves, or they do not determine the fit.
    """
    least = 4 if full else 2
    is_moving = np.linalg.norm(inferred_m[:, :2], axis=1) > _LEAST_MOVE_M
    if len(commanded_m) < least or int(is_moving.sum()) < 2:
        raise RecordingError(
            f"{len(commanded_m)} moves, of which the planner sees {int(is_moving.sum())}, are too "
            f"few; at least {least} are needed and 2 must be seen. Does the camera show the hand?"
        )
    if full and np.linalg.matrix_rank(inferred_m, tol=_LEAST_MOVE_M) < 3:
        raise RecordingError("the inferred moves lie in a plane; move along x, y and z for --full")
    angle_rad = _angle(commanded_m, inferred_m)
    matrix = _least_squares(commanded_m, inferred_m) if full else turn_about_z(angle_rad)
    return Axes(
        matrix=matrix,
        angle_rad=angle_rad,
        angle_std_rad=_spread(commanded_m, inferred_m),
        error_before_m=_rms(inferred_m - commanded_m),
        error_after_m=_rms(inferred_m @ matrix.T - commanded_m),
        moves=len(commanded_m),
        camera=camera,
    )


def turn_about_z(angle_rad: float) -> Matrix:
    """Rotation matrix [3, 3] about the vertical."""
    return np.asarray(poses.euler_to_matrix(np.array([0.0, 0.0, angle_rad])), np.float64)


def _angle(commanded: Matrix, inferred: Matrix) -> float:
    """The turn that brings the inferred planar displacements nearest to the commanded ones."""
    cross = inferred[:, 0] * commanded[:, 1] - inferred[:, 1] * commanded[:, 0]
    dot = (inferred[:, :2] * commanded[:, :2]).sum(axis=1)
    return float(np.arctan2(cross.sum(), dot.sum()))


def _spread(commanded: Matrix, inferred: Matrix) -> float:
    """Standard deviation of the turn over resampled moves, around its own value."""
    rng, count = np.random.default_rng(0), len(commanded)
    centre = _angle(commanded, inferred)
    picks = rng.integers(count, size=(_RESAMPLES, count))
    angles = np.array([_angle(commanded[pick], inferred[pick]) for pick in picks])
    away = (angles - centre + np.pi) % (2 * np.pi) - np.pi
    return float(np.sqrt(np.mean(away**2)))


def _least_squares(commanded: Matrix, inferred: Matrix) -> Matrix:
    solution, *_ = np.linalg.lstsq(inferred, commanded, rcond=None)
    return np.ascontiguousarray(solution.T)


def _rms(errors_m: Matrix) -> float:
    return float(np.sqrt(np.mean(np.sum(errors_m**2, axis=1))))
