"""Task files with images, retries and success checks; and going on with a broken run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from robot_client.cameras.testcard import TestCard
from robot_client.errors import RecordingError, TaskError
from robot_client.progress import GivenUpError, TaskProgress
from robot_client.recorder import Recorder
from robot_client.records import StepRecord
from robot_client.resume import goal_to_resume
from robot_client.tasks import SubGoal, Success, Task, load_task, save_task
from simulation.tasks import make_task

TASKS = Path(__file__).parents[2] / "configs" / "tasks"


def task(*sub_goals: SubGoal, **changes: Any) -> Task:
    return Task(name="t", description="d", sub_goals=sub_goals, **changes)


def test_a_task_survives_its_file_and_images_move_with_it(tmp_path: Path) -> None:
    image = (tmp_path / "a.png").resolve()
    written = task(
        SubGoal(name="a", max_steps=4, image=image, done_energy=0.3, retries=2),
        SubGoal(name="b", max_steps=2, retry_from="a", gripper_on_retry="open"),
        success=Success(by="energy", energy=0.2),
    )
    save_task(written, tmp_path / "t.yaml")
    assert load_task(tmp_path / "t.yaml") == written
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    (tmp_path / "t.yaml").rename(moved / "t.yaml")
    assert load_task(moved / "t.yaml").sub_goals[0].image == (moved / "a.png").resolve()


@pytest.mark.parametrize(
    "values",
    [
        {"sub_goals": [{"name": "a", "max_steps": 1, "retry_from": "b"}]},
        {"sub_goals": [{"name": "a", "max_steps": 1, "done_energy": 0}]},
        {"sub_goals": [{"name": "a", "max_steps": 1}], "success": {"by": "energy"}},
        {"sub_goals": [{"name": "a", "max_steps": 1}], "success": {"by": "operator", "energy": 1}},
        {"sub_goals": [{"name": "a", "max_steps": 1}], "success": {"by": "luck"}},
    ],
)
def test_what_does_not_fit_together_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Task.model_validate({"name": "t", "description": "d", **values})


@pytest.mark.parametrize("name", ["reach", "grasp", "pick_and_place"])
def test_shipped_tasks_have_the_simulators_sub_goals_and_gripper_policy(name: str) -> None:
    shipped, layout = load_task(TASKS / f"{name}.yaml"), make_task(name, 3)  # type: ignore[arg-type]
    assert len(shipped.sub_goals) == len(layout.sub_goals)
    rules = [sub_goal.gripper_rule or "hold" for sub_goal in layout.sub_goals]
    assert [sub_goal.gripper_after for sub_goal in shipped.sub_goals] == rules
    if name == "pick_and_place":  # 4, 10 and 4 steps, as in the V-JEPA 2 paper
        assert [sub_goal.max_steps for sub_goal in shipped.sub_goals] == [4, 10, 4]
        assert [sub_goal.step_budget for sub_goal in layout.sub_goals] == [4, 10, 4]


def test_a_retry_goes_back_to_the_sub_goal_it_names_and_is_counted() -> None:
    progress = TaskProgress(
        task(
            SubGoal(name="a", max_steps=1),
            SubGoal(name="b", max_steps=1, retries=1, retry_from="a"),
        )
    )
    progress.advance()
    assert progress.retry("slipped").name == "b"
    assert (progress.goal_index, progress.retries) == (0, 1)
    progress.advance()
    with pytest.raises(GivenUpError, match=r"slipped.*2 attempts"):
        progress.retry("slipped")


def test_a_sub_goal_with_an_energy_is_judged_at_the_look_after_its_last_step() -> None:
    progress = TaskProgress(task(SubGoal(name="a", max_steps=1, done_energy=0.3)))
    assert not progress.is_over(0.1, 0.5)
    assert not progress.count_step()
    assert progress.is_over(0.1, 0.5)
    assert progress.failure() is not None
    assert progress.is_over(0.1, 0.3)
    assert progress.failure() is None


def broken_run(folder: Path, goal_index: int) -> None:
    whole = task(SubGoal(name="a", max_steps=1), SubGoal(name="b", max_steps=1))
    frame = TestCard().newest(0.0).frame
    with Recorder(folder, whole, [frame, frame]) as recorder:
        recorder.add(StepRecord(0, 0))
        recorder.add(StepRecord(1, goal_index))


def test_a_broken_run_goes_on_with_the_sub_goal_that_was_under_way(tmp_path: Path) -> None:
    broken_run(tmp_path, 1)
    names = ("a", "b", "c")
    again = task(*(SubGoal(name=name, max_steps=1) for name in names), gripper_at_start="open")
    left = goal_to_resume(tmp_path, again)
    assert [sub_goal.name for sub_goal in left.sub_goals] == ["b", "c"]
    assert left.gripper_at_start == "hold"  # what the hand holds it keeps


def test_a_run_of_another_task_or_none_cannot_go_on(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no run"):
        goal_to_resume(tmp_path, task(SubGoal(name="a", max_steps=1)))
    broken_run(tmp_path, 1)
    with pytest.raises(TaskError, match="'b'"):
        goal_to_resume(tmp_path, task(SubGoal(name="a", max_steps=1)))


def test_the_viewer_shows_each_pass_or_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys
    from types import SimpleNamespace

    from robot_client.errors import RunError
    from robot_client.viewer import RerunViewer

    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(RunError, match="rerun"):
        RerunViewer("live")
    logged: list[str] = []
    saved: list[str] = []
    fake = SimpleNamespace(
        init=lambda name, spawn: saved.append(f"spawn {spawn}"),
        save=saved.append,
        set_time=lambda name, sequence: None,
        log=lambda path, what: logged.append(path),
        Image=lambda frame: SimpleNamespace(compress=lambda: frame),
        Points3D=lambda points, radii: points,
        Scalars=lambda value: value,
        TextLog=lambda text: text,
    )
    monkeypatch.setitem(sys.modules, "rerun", fake)  # type: ignore[arg-type]
    viewer = RerunViewer(str(tmp_path / "run.rrd"))
    record = StepRecord(0, 0, captured=TestCard().newest(0.0), problem="late", latency_ms=3.0)
    viewer.show(record)
    assert saved == ["spawn False", str(tmp_path / "run.rrd")]
    assert logged == ["camera", "latency_ms", "problems"]
    assert np.isfinite(record.latency_ms or 0.0)


def test_a_run_whose_rest_goes_back_to_what_was_before_it_is_not_resumed(tmp_path: Path) -> None:
    (tmp_path / "episode.jsonl").write_text('{"sub_goal": "b"}\n')
    back = SubGoal(name="c", max_steps=1, done_energy=0.1, retries=1, retry_from="a")
    first, second = SubGoal(name="a", max_steps=1), SubGoal(name="b", max_steps=1)
    with pytest.raises(TaskError, match="c retries from 'a'"):
        goal_to_resume(tmp_path, task(first, second, back))
    near = back.model_copy(update={"retry_from": "b"})
    assert len(goal_to_resume(tmp_path, task(first, second, near)).sub_goals) == 2
