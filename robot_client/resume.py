"""Going on with a run that a power cut or a crash has broken off."""

from pathlib import Path

from robot_client.errors import RecordingError, TaskError
from robot_client.report import read_episode
from robot_client.tasks import Task
from trajectories.errors import TrajectoryError
from trajectories.recorder import recover


def goal_to_resume(folder: Path, task: Task) -> Task:
    """What is left of a task: the sub-goals from the one that was under way.

    The broken run's recording is made whole first, as far as it goes.

    Args:
        folder: Of the broken run.
        task: The task it did.

    Raises:
        TaskError: It did another task, nothing is left of this one, or what is left goes back to
            what is not.
        RecordingError: The folder holds no run.
    """
    try:
        recover(folder)
        lines = read_episode(folder)
    except (TrajectoryError, OSError) as error:
        raise RecordingError(f"{folder} holds no run that can go on: {error}") from error
    if not lines:
        return task
    name = lines[-1]["sub_goal"]
    names = [sub_goal.name for sub_goal in task.sub_goals]
    if name not in names:
        raise TaskError(f"{folder} stopped at {name!r}; task {task.name} has {', '.join(names)}")
    left = task.sub_goals[task.index_of(name) :]
    for sub_goal in left:
        if sub_goal.retries and sub_goal.retry_from in names[: task.index_of(name)]:
            raise TaskError(
                f"{folder} stopped at {name!r}, and {sub_goal.name} retries from "
                f"{sub_goal.retry_from!r}, which was before it: begin the task anew without "
                "--resume, or take that retry_from out of the task file"
            )
    return task.model_copy(update={"sub_goals": left, "gripper_at_start": "hold"})
