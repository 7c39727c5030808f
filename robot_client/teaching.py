"""Teaching a task: bring the arm to each sub-goal, by key or by hand, and photograph it there."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from robot_client.arms.arm import Arm
from robot_client.cameras.camera import Camera
from robot_client.cameras.sight import check_contrast
from robot_client.errors import CameraError
from robot_client.recorder import write_png
from robot_client.safety import filter_action
from robot_client.tasks import Task, save_task

KEYS = """w s   forwards, backwards (x)      r f   up, down
a d   left, right (y)           q e   turn about the vertical
+ -   longer, shorter steps     o c   open, close the gripper
space hold                      enter photograph this sub-goal
x     give up
A step begins where the last one has come to rest; on the way the same key is passed over and
another one brakes."""

_JOG_S = 0.6
_GLANCE_S = 0.05
_TURN_RAD = 0.1
_SHORTEST_M, _LONGEST_M = 0.0025, 0.08
_DIRECTIONS = {
    "w": (1, 0, 0),
    "s": (-1, 0, 0),
    "a": (0, 1, 0),
    "d": (0, -1, 0),
    "r": (0, 0, 1),
    "f": (0, 0, -1),
}
_TURNS = {"q": _TURN_RAD, "e": -_TURN_RAD}


@dataclass(eq=False)
class Teaching:
    """One task being taught.

    Attributes:
        arm: Connected.
        camera: Connected.
        task: Gets an image for every sub-goal.
        folder: Where images and the task file go; exists.
        is_moving_allowed: False: the arm is guided by hand, keys do not move it.
        say: Tells the person.
    """

    arm: Arm
    camera: Camera
    task: Task
    folder: Path
    is_moving_allowed: bool
    say: Callable[[str], None]
    step_m: float = 0.02
    _taken: list[Path] = field(default_factory=list)
    _poses: dict[str, list[float]] = field(default_factory=dict)
    _key_under_way: str = ""
    _earliest_rest: float = 0.0

    @property
    def is_finished(self) -> bool:
        """Whether every sub-goal has its image."""
        return len(self._taken) == len(self.task.sub_goals)

    @property
    def wanted(self) -> str:
        """Name of the sub-goal that is to be photographed next."""
        return self.task.sub_goals[len(self._taken)].name

    def press(self, key: str) -> None:
        """Do what a key means; one that means nothing is passed over.

        Every motion goes through the task's safety limits, and what is clamped is said.
        """
        if key in ("\n", "\r"):
            self._photograph()
        elif key in "+-":
            factor = 2.0 if key == "+" else 0.5
            self.step_m = float(np.clip(factor * self.step_m, _SHORTEST_M, _LONGEST_M))
            self.say(f"steps of {100 * self.step_m:.2g} cm")
        elif key == " ":
            self._brake(key)
        elif key in "oc" and self.is_moving_allowed:
            if key == "c":
                self.arm.grasp()
            else:
                self.arm.open_gripper()
        elif (key in _DIRECTIONS or key in _TURNS) and self.is_moving_allowed:
            self._jog(key)

    def finish(self) -> Path:
        """Write the task file with its images; returns its path."""
        sub_goals = tuple(
            sub_goal.model_copy(update={"image": image})
            for sub_goal, image in zip(self.task.sub_goals, self._taken, strict=True)
        )
        path = self.folder / f"{self.task.name}.yaml"
        save_task(self.task.model_copy(update={"sub_goals": sub_goals}), path)
        poses_text = json.dumps(self._poses, indent=2) + "\n"
        (self.folder / "poses.json").write_text(poses_text, encoding="utf-8")
        return path

    def _is_under_way(self) -> bool:
        """Whether a step is not over yet, as two looks at the arm tell."""
        if time.monotonic() < self._earliest_rest:
            return True
        self.arm.is_moving()
        time.sleep(_GLANCE_S)
        return self.arm.is_moving()

    def _brake(self, key: str) -> None:
        self.arm.hold()
        self._key_under_way, self._earliest_rest = key, 0.0

    def _jog(self, key: str) -> None:
        """Begin a step from rest; on the way a key that is held down is no next step, another brakes.

        A step on the way would be checked from where the arm is, but begun at the speed it has: it
        would sweep off the way that was checked.
        """
        if self._is_under_way():
            if key != self._key_under_way:
                self._brake(key)
            return
        action = np.zeros(7)
        if key in _DIRECTIONS:
            action[:3] = self.step_m * np.array(_DIRECTIONS[key])
        else:
            action[5] = _TURNS[key]
        state = self.arm.state()
        filtered = filter_action(
            action, state.pose, self.task.safety, period_s=_JOG_S, joints_rad=state.joints_rad
        )
        for finding in filtered.findings:
            self.say(finding.text)
        if filtered.refusal is None:
            self._key_under_way, self._earliest_rest = key, time.monotonic() + _JOG_S
            self.arm.move_to(filtered.target, _JOG_S)

    def _photograph(self) -> None:
        """Take the newest frame as the image of the sub-goal, when the arm rests."""
        if self._is_under_way():
            self.say("the arm still moves; press enter again when it rests")
            return
        try:
            frame = self.camera.newest(0.5).frame
            check_contrast(frame)
        except CameraError as error:
            self.say(str(error))
            return
        name = self.wanted
        path = (self.folder / f"{self.task.name}-{name}.png").resolve()
        write_png(path, frame)
        pose = self.arm.state().pose
        self._taken.append(path)
        self._poses[name] = pose.tolist()
        self.say(f"{name}: {path.name}, flange at {np.round(pose[:3], 3).tolist()} m")
