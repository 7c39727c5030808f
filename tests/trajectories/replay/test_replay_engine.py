"""Replay with planners whose answers are known."""

import dataclasses

import numpy as np
import pytest

from trajectories.cameras import ArrayCamera
from trajectories.errors import BadEpisodeError, CorruptDataError, Defect
from trajectories.replay.errors import ReplayError
from trajectories.replay.questions import ask, check_goal_steps, spans
from trajectories.replay.results import (
    PLAN,
    flat_rows,
    read_json,
    write_json,
    write_parquet,
)


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize(("horizon", "goal_steps"), [(1, 1), (1, 4), (3, 3), (2, "end")])
def test_spans_start_at_every_nth_frame_and_end_inside_the_episode(horizon, goal_steps, every):
    found = spans(12, horizon, goal_steps, every)
    assert [span.step for span in found] == list(range(0, 11, every))
    for span in found:
        assert span.step < span.goal_step <= 11
        assert span.is_tail == (span.step + horizon > 11)
        if goal_steps == "end":
            assert span.goal_step == 11
        else:
            assert span.goal_step == min(span.step + goal_steps, 11)


def test_goals_nearer_than_the_plan_are_refused_with_the_remedy():
    with pytest.raises(ReplayError, match="--goal-steps 3"):
        check_goal_steps(2, 3)
    check_goal_steps("end", 3)


class CountingCamera(ArrayCamera):
    def __init__(self, frames):
        super().__init__(frames)
        self.rows = []

    def _read(self, rows):
        self.rows += rows.tolist()
        return super()._read(rows)


@pytest.mark.parametrize("goal_steps", [1, 3, "end"])
def test_questions_carry_the_right_frames_and_decode_each_once(make_episode, goal_steps):
    frames = np.arange(9, dtype=np.uint8)[:, None, None, None] * np.ones((9, 4, 4, 3), np.uint8)
    camera = CountingCamera(frames)
    episode = make_episode(rows=9, cameras={"left": camera})
    asked = spans(9, 1, goal_steps)
    for span, question in zip(asked, ask(episode, "left", asked, horizon=1), strict=True):
        assert question.frame[0, 0, 0] == span.step
        assert question.goal[0, 0, 0] == span.goal_step
        assert question.next_frame[0, 0, 0] == span.step + 1
        assert question.last_frame[0, 0, 0] == 8
        np.testing.assert_allclose(question.recorded[0], episode.actions[span.step])
        if span.step:
            np.testing.assert_allclose(question.previous, episode.actions[span.step - 1])
        else:
            assert question.previous is None
    assert sorted(camera.rows) == list(range(9))


def test_a_perfect_plan_has_the_perfect_score_and_the_least_energy(
    make_episode, known_planner, replayed
):
    planner = known_planner()
    result = replayed(planner, make_episode(rows=8, seed=1), make_episode(rows=9, seed=2)).result()
    assert result.summary[PLAN]["action_score"].mean == pytest.approx(80)
    assert result.summary[PLAN]["direction_cosine"].mean == pytest.approx(1)
    assert result.summary["overall"]["rank_of_recorded"].mean == 0
    assert result.summary["oracle"]["action_score"].mean == pytest.approx(80)
    assert result.summary["do_nothing"]["action_score"].mean < 80
    assert result.summary["random"]["energy"].mean > result.summary["oracle"]["energy"].mean
    assert not result.missing
    assert {step.warnings for step in result.steps} == {("slow",)}


def test_a_plan_that_is_3_cm_off_is_3_cm_off(make_episode, known_planner, replayed):
    result = replayed(known_planner(0.03), make_episode(rows=12)).result()
    assert result.summary[PLAN]["end_distance_xyz_m"].mean == pytest.approx(0.03)
    assert result.summary[PLAN]["action_score"].mean == pytest.approx(800 * 0.07)


def test_steps_whose_horizon_leaves_the_episode_are_shown_but_not_averaged(
    make_episode, known_planner, replayed
):
    planner = known_planner(horizon=3)
    result = replayed(planner, make_episode(rows=8), goal_steps=3).result()
    assert len(result.steps) == 7
    assert len(result.full_steps()) == 5
    assert result.summary[PLAN]["distance_m"].steps == 5
    last = result.steps[-1]
    assert not np.any(last.recorded[1:])  # at rest after the end


def test_what_a_server_cannot_tell_is_named_and_stays_empty(make_episode, known_planner, replayed):
    planner = known_planner(knows_energies=False)
    replay = replayed(planner, make_episode(rows=8), landscapes=1)
    result = replay.result()
    assert set(result.missing) == {
        "energy_recorded",
        "rank_of_recorded",
        "surprise",
        "energy_to_end",
    }
    assert result.summary["overall"]["surprise"].mean is None
    assert result.summary["do_nothing"]["energy"].mean == pytest.approx(0.7)  # the plan tells
    assert result.summary[PLAN]["energy"].mean == 0
    assert not result.landscapes


def test_towards_the_end_the_plan_itself_tells_the_energy_to_the_end(
    make_episode, known_planner, replayed
):
    planner = known_planner(knows_energies=False)
    result = replayed(planner, make_episode(rows=8), goal_steps="end").result()
    assert all(step.energy_to_end == 1.0 for step in result.steps)
    assert result.episodes[0].monotonicity is None  # a constant says nothing
    assert result.episodes[0].falling_share == 0


def test_the_landscape_has_its_lowest_point_beside_the_recorded_action(
    make_episode, known_planner, replayed
):
    result = replayed(known_planner(), make_episode(rows=8), landscapes=2).result()
    assert len(result.landscapes) == 2
    for each in result.landscapes:
        assert len(each.cube) == 5
        assert [len(row) for slice_ in each.cube for row in slice_.energies] == [5] * 25
        assert each.energy_recorded == pytest.approx(0, abs=1e-12)
        spacing_m = each.fine[0].across_m[1] - each.fine[0].across_m[0]
        assert np.abs(np.subtract(each.lowest_m, each.recorded_m)).max() <= spacing_m
        for slice_ in (*each.cube, *each.fine):
            row, column = np.unravel_index(np.argmin(slice_.energies), np.shape(slice_.energies))
            for axis, value in zip(
                slice_.axes, (slice_.across_m[column], slice_.up_m[row]), strict=True
            ):
                grid = slice_.across_m if axis == slice_.axes[0] else slice_.up_m
                nearest = min(abs(each.recorded_m["xyz".index(axis)] - np.array(grid)))
                assert abs(value - each.recorded_m["xyz".index(axis)]) <= nearest + 1e-9


class BrokenCamera(ArrayCamera):
    def _read(self, rows):
        if 5 in rows:
            raise CorruptDataError("frame 5 is damaged")
        return super()._read(rows)


def test_an_episode_that_breaks_on_the_way_leaves_nothing_behind(
    make_episode, known_planner, replayed
):
    good = make_episode(rows=8, seed=1)
    bad = make_episode(rows=8, seed=2)
    broken = dataclasses.replace(
        bad, cameras={"left": BrokenCamera(np.zeros((8, 4, 4, 3), np.uint8))}
    )
    replay = replayed(known_planner(), good)
    with pytest.raises(CorruptDataError):
        replay.add(broken, "left", spans(8, 2, 2))
    result = replay.result([BadEpisodeError(bad.name, [Defect("unreadable", "frame 5")])])
    assert {step.episode for step in result.steps} == {good.name}
    assert [each.name for each in result.episodes] == [good.name]
    assert list(replay.thumbnails) == [good.name]
    assert "frame 5" in result.skipped[0].reason


def test_json_comes_back_equal_and_parquet_has_one_row_per_step(
    make_episode, tmp_path, known_planner, replayed
):
    result = replayed(known_planner(0.01), make_episode(rows=8), landscapes=1).result()
    write_json(tmp_path / "a.json", result)
    assert read_json(tmp_path / "a.json") == result
    parquet = pytest.importorskip("pyarrow.parquet")
    assert write_parquet(tmp_path / "a.parquet", result.steps)
    rows = parquet.read_table(tmp_path / "a.parquet").to_pylist()
    assert rows == flat_rows(result.steps)
    assert rows[0]["plan_end_distance_xyz_m"] == pytest.approx(0.01)
    assert not list(tmp_path.glob("*.draft"))


@pytest.mark.parametrize("content", [b"", b"{}", b'{"format": "other"}', b"\xff\xfe"])
def test_a_file_that_is_no_result_is_named(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(ReplayError, match=r"x\.json is no replay result"):
        read_json(path)
    with pytest.raises(ReplayError, match="cannot be read"):
        read_json(tmp_path / "absent.json")


def test_the_first_planned_answer_is_for_the_first_step_and_pictures_end_with_the_last_frame(
    make_episode, known_planner, replayed
):
    replay = replayed(known_planner(), make_episode(rows=30))
    pictures = replay.thumbnails["episode-0"]
    assert pictures[0].step == 0
    assert pictures[-1].step == 29
    assert len(pictures) == 8
    assert all(each.jpeg.startswith(b"\xff\xd8") for each in pictures)
