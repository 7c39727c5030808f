"""Tasks as files, and when a sub-goal ends."""

from pathlib import Path

import pytest

from robot_client.errors import TaskError
from robot_client.gripper_rule import GripperRule
from robot_client.progress import TaskProgress
from robot_client.tasks import SubGoal, Task, load_task

TASKS = sorted((Path(__file__).parents[2] / "configs" / "tasks").glob("*.yaml"))

TASK = Task(
    name="two",
    description="Two sub-goals.",
    sub_goals=(
        SubGoal(name="a", max_steps=3, gripper_after="close"),
        SubGoal(name="b", max_steps=2),
    ),
)


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.stem)
def test_the_shipped_tasks_are_valid_and_named_after_their_file(path: Path) -> None:
    assert load_task(path).name == path.stem


def test_all_three_tasks_are_shipped() -> None:
    assert [path.stem for path in TASKS] == ["grasp", "pick_and_place", "reach"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("name: x\ndescription: d\nsub_goals: []\n", "sub_goals"),
        ("name: x\ndescription: d\nsub_goals: [{name: a, max_steps: 1, speed: 2}]\n", "speed"),
        ("name: x\ndescription: d\nsub_goals: [{name: a, max_steps: 0}]\n", "max_steps"),
        ("name: X Y\ndescription: d\nsub_goals: [{name: a, max_steps: 1}]\n", "name"),
        (
            "name: x\ndescription: d\nsub_goals: [{name: a, max_steps: 1}, {name: a, max_steps: 1}]",
            "different names",
        ),
        ("- just a list\n", "valid task"),
        ("a: [1\n", "no YAML"),
        ("name: !!python/object/apply:os.system [echo]\n", "no YAML"),
    ],
)
def test_a_bad_task_file_is_refused_by_name(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(text)
    with pytest.raises(TaskError, match=named):
        load_task(path)


def test_a_missing_task_file_names_those_beside_it() -> None:
    with pytest.raises(TaskError, match=r"reach\.yaml"):
        load_task(TASKS[0].with_name("juggle.yaml"))


def test_a_sub_goal_ends_when_its_steps_are_spent() -> None:
    progress = TaskProgress(TASK)
    assert [progress.count_step() for _ in range(3)] == [False, False, True]
    progress.advance()
    assert progress.sub_goal.name == "b"
    assert [progress.count_step() for _ in range(2)] == [False, True]
    progress.advance()
    assert progress.is_finished


def test_two_small_plans_in_a_row_mean_arrival() -> None:
    progress = TaskProgress(TASK)
    planned = [0.05, 0.011, 0.013, 0.011, 0.0]
    assert [progress.is_over(step_m, 1.0) for step_m in planned] == [False] * 4 + [True]


def test_a_new_sub_goal_begins_without_the_old_ones_small_plans() -> None:
    progress = TaskProgress(TASK)
    progress.is_over(0.0, 1.0)
    progress.advance()
    assert not progress.is_over(0.0, 1.0)


def test_the_gripper_follows_a_wish_that_persists_and_only_once() -> None:
    rule = GripperRule()
    assert [rule.follow(0.0, change) for change in (0.5, 0.5, 0.5, -0.5, 0.5)] == [
        "hold",
        "close",
        "hold",
        "hold",
        "hold",
    ]


def test_small_wishes_and_opening_an_open_gripper_are_nothing() -> None:
    rule = GripperRule()
    assert {rule.follow(0.3, 0.09) for _ in range(5)} == {"hold"}
    assert {rule.follow(0.0, -0.5) for _ in range(5)} == {"hold"}


def test_the_gripper_opens_again_after_closing() -> None:
    rule = GripperRule()
    actions = [rule.follow(0.0, 0.5), rule.follow(0.1, 0.5)]
    actions += [rule.follow(0.5, -0.5), rule.follow(0.5, -0.5)]
    assert actions == ["hold", "close", "hold", "open"]
