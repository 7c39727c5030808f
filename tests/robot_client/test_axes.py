"""Fitting how a camera turns the planner's axes, and exploring it with an arm."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_client import cli
from robot_client.axes import Axes, fit_axes, turn_about_z
from robot_client.errors import RecordingError
from robot_client.protocol import Observe

WAYS = 0.06 * np.array([[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0], [0.7, 0.7, 0]])
SOLID = np.concatenate([WAYS, 0.06 * np.array([[0, 0, 1.0], [0, 0, -1.0]])])


@given(st.floats(-3.1, 3.1), st.floats(0.3, 2.0))
def test_a_turned_camera_is_found_out_whatever_the_scale(angle: float, scale: float) -> None:
    inferred = scale * WAYS @ turn_about_z(-angle).T
    axes = fit_axes(WAYS, inferred, "c", full=False)
    assert axes.angle_rad == pytest.approx(angle, abs=1e-9)
    assert axes.angle_std_rad == pytest.approx(0.0, abs=1e-6)
    np.testing.assert_allclose(axes.matrix, turn_about_z(angle), atol=1e-9)


@given(st.integers(0, 1000))
def test_the_full_fit_undoes_any_linear_distortion(seed: int) -> None:
    rng = np.random.default_rng(seed)
    distortion = np.eye(3) + rng.uniform(-0.3, 0.3, (3, 3))
    axes = fit_axes(SOLID, SOLID @ distortion.T, "c", full=True)
    np.testing.assert_allclose(axes.matrix @ distortion, np.eye(3), atol=1e-9)
    assert axes.error_after_m < 1e-9


def test_the_stated_uncertainty_covers_the_error_of_noisy_moves() -> None:
    rng, angle = np.random.default_rng(0), 0.5
    errors, stated = [], []
    for _ in range(200):
        inferred = WAYS @ turn_about_z(-angle).T + rng.normal(0, 0.01, WAYS.shape)
        axes = fit_axes(WAYS, inferred, "c", full=False)
        errors.append(axes.angle_rad - angle)
        stated.append(axes.angle_std_rad)
    assert 0.5 < np.mean(stated) / np.std(errors) < 2.0


def test_noise_is_less_after_the_correction_than_before() -> None:
    rng = np.random.default_rng(1)
    inferred = WAYS @ turn_about_z(-0.7).T + rng.normal(0, 0.005, WAYS.shape)
    axes = fit_axes(WAYS, inferred, "c", full=False)
    assert axes.error_after_m < 0.5 * axes.error_before_m


@pytest.mark.parametrize(
    ("commanded", "inferred", "full"),
    [
        (WAYS[:1], WAYS[:1], False),
        (WAYS, np.zeros_like(WAYS), False),
        (WAYS[:3], WAYS[:3], True),
        (WAYS, WAYS, True),  # in a plane
    ],
)
def test_moves_that_determine_nothing_are_refused(
    commanded: np.ndarray, inferred: np.ndarray, full: bool
) -> None:
    with pytest.raises(RecordingError):
        fit_axes(commanded, inferred, "c", full=full)


@given(st.floats(-3, 3), st.tuples(*[st.floats(-0.2, 0.2)] * 7))
def test_turning_an_action_keeps_its_length_and_its_rotation(
    angle: float, numbers: tuple[float, ...]
) -> None:
    action = np.array(numbers)
    turned = Axes(turn_about_z(angle), angle, 0.0, 0.0, 0.0, 4).turn(action)
    assert np.linalg.norm(turned[:3]) == pytest.approx(float(np.linalg.norm(action[:3])), abs=1e-12)
    np.testing.assert_array_equal(turned[3:], action[3:])


def test_a_correction_survives_its_file(tmp_path: Path) -> None:
    axes = fit_axes(WAYS, WAYS @ turn_about_z(-0.4).T, "left", full=False)
    axes.save(tmp_path / "axes" / "left.json")
    again = Axes.load(tmp_path / "axes" / "left.json")
    np.testing.assert_allclose(again.matrix, axes.matrix)
    assert (again.camera, again.moves) == ("left", 5)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"matrix": [[1]]}', '{"matrix": "x"}'])
def test_a_file_that_is_no_correction_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "axes.json"
    path.write_text(text)
    with pytest.raises(RecordingError, match="axes"):
        Axes.load(path)


def test_calibrate_axes_finds_the_turn_of_a_planner_that_sees_through_a_turned_camera(
    stand_in: Any, tmp_path: Path, capsys: Any
) -> None:
    """The stand-in infers each true displacement, but turned, as the paper says of moved cameras."""
    angle = 0.6
    ways = 0.06 * np.array([(1, 0), (0, 1), (-1, 0), (0, -1), (0.7, 0.7), (-0.7, 0.7)])

    def infer(observe: Observe, send: Any) -> None:
        action = np.zeros((1, 7))
        action[0, :2] = turn_about_z(-angle)[:2, :2] @ ways[observe.goal_index or 0]
        send(stand_in.act(observe, actions=action, predicted_states=action).encode())

    stand_in.on_observe = infer
    task = tmp_path / "cell.yaml"
    task.write_text("name: cell\ndescription: d\nsub_goals: [{name: a, max_steps: 1}]\n")
    output = tmp_path / "axes.json"
    arguments = ["calibrate-axes", "--task", str(task), "--arm", "dummy", "--output", str(output)]
    arguments += ["--server", stand_in.endpoint, "--http", stand_in.url, "--move-time", "0.2"]
    assert cli.main(arguments) == cli.DONE
    values = json.loads(output.read_text())
    assert values["angle_rad"] == pytest.approx(angle, abs=1e-6)
    assert len(stand_in.goals) == 6
    assert "34.4" in capsys.readouterr().out


def test_calibrating_a_real_arm_needs_leave_to_move(tmp_path: Path, capsys: Any) -> None:
    task = tmp_path / "cell.yaml"
    task.write_text("name: cell\ndescription: d\nsub_goals: [{name: a, max_steps: 1}]\n")
    arguments = ["calibrate-axes", "--task", str(task), "--arm", "franky", "--host", "127.0.41.99"]
    assert cli.main(arguments) == cli.FAILED
    assert "--arm-motion" in capsys.readouterr().err
