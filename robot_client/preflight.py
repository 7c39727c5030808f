"""Is everything ready? Each check says what it found and, where it fails, what to do."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from robot_client.arms import fr3_kinematics
from robot_client.arms.arm import Arm
from robot_client.cameras.camera import Camera, CapturedFrame
from robot_client.cameras.sight import check_contrast
from robot_client.errors import RobotClientError
from robot_client.planner_client import PlannerClient
from robot_client.protocol import Welcome
from robot_client.rest import RestClient
from robot_client.safety import SafetyLimits, fingertip_z_m
from robot_client.safety.geometry import Vector, outside_m
from robot_client.tasks import Task
from trajectories import poses

_WATCH_S = 1.5
_HEARTBEATS_S = 1.2  # of pinging, a few times over
_LEAST_FPS = 5.0
_MAX_FRAME_AGE_S = 0.5
_RESTING_M = 1e-3
_REALTIME = Path("/sys/kernel/realtime")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    text: str
    is_ok: bool = field(kw_only=True)


@dataclass(frozen=True, eq=False)
class Preflight:
    """What is checked before a run.

    Attributes:
        rest: The server's HTTP side.
        client: Its ZMQ side, not connected.
        arm: Not connected.
        camera: Not connected.
        task: Whose limits must fit.
        needs_realtime: The arm is real.
    """

    rest: RestClient
    client: PlannerClient
    arm: Arm
    camera: Camera
    task: Task
    needs_realtime: bool

    def checks(self) -> Iterator[Check]:
        """Run one check after the other; nothing moves.

        What is connected is disconnected again.
        """
        try:
            yield _clock()
            if self.needs_realtime:
                yield _kernel()
            yield from self._server()
            yield from self._camera()
            yield from self._arm()
        finally:
            self.client.close()
            self.camera.disconnect()
            self.arm.disconnect()

    def _server(self) -> Iterator[Check]:
        found = _attempt("server", self.rest.model)
        if isinstance(found, Check):
            yield found
            return
        yield Check("server", f"answers over HTTP, model {found.get('name')}", is_ok=True)
        welcome = _attempt("robot door", self.client.connect)
        if isinstance(welcome, Check):
            yield welcome
            return
        yield Check("robot door", f"welcome of {welcome.server}", is_ok=True)
        yield _model(welcome, self.task.safety)
        yield self._heartbeat()

    def _heartbeat(self) -> Check:
        self.client.listen(_HEARTBEATS_S)
        owed_ms = 1e3 * self.client.silence_s()
        is_ok = owed_ms < 0.5e3 * _HEARTBEATS_S
        return Check("heartbeat", f"answers are owed for {owed_ms:.0f} ms at most", is_ok=is_ok)

    def _camera(self) -> Iterator[Check]:
        failed = _attempt("camera", self.camera.connect)
        if isinstance(failed, Check):
            yield failed
            return
        frames = _watch(self.camera)
        if isinstance(frames, Check):
            yield frames
            return
        height, width = frames[-1].frame.shape[:2]
        yield Check("camera", f"delivers {width} x {height} px", is_ok=True)
        yield _picture(frames[-1])
        yield _rate(frames)

    def _arm(self) -> Iterator[Check]:
        failed = _attempt("arm", self.arm.connect)
        if isinstance(failed, Check):
            yield failed
            return
        state = _attempt("arm", self.arm.state)
        if isinstance(state, Check):
            yield state
            return
        yield Check("arm", f"flange at {np.round(state.pose[:3], 3).tolist()} m", is_ok=True)
        yield _place(state.pose, self.task.safety)
        if state.joints_rad is not None:
            yield _joints(state.pose, state.joints_rad, self.task.safety)
        time.sleep(0.2)
        moved_m = float(np.linalg.norm((self.arm.state().pose - state.pose)[poses.POSITION]))
        yield Check("at rest", f"moved {1e3 * moved_m:.2f} mm in 0.2 s", is_ok=moved_m < _RESTING_M)
        closedness = float(state.pose[6])
        is_ok = 0.0 <= closedness <= 1.0 and not self.arm.is_gripper_busy()
        hint = "" if is_ok else "; home it: `robot-client home-gripper`"
        yield Check("gripper", f"closedness {closedness:.2f}{hint}", is_ok=is_ok)


def _attempt(name: str, call: Callable[[], object]) -> "Check | Any":
    try:
        return call()
    except RobotClientError as error:
        return Check(name, str(error), is_ok=False)


def _clock() -> Check:
    resolution_s = time.get_clock_info("monotonic").resolution
    started = time.monotonic()
    time.sleep(0.01)
    late_ms = 1e3 * (time.monotonic() - started - 0.01)
    is_ok = resolution_s <= 1e-3 and late_ms < 20.0
    text = f"resolution {1e9 * resolution_s:.0f} ns, a pause of 10 ms took {late_ms:.1f} ms longer"
    return Check("clock", text if is_ok else f"{text}; the machine is too busy", is_ok=is_ok)


def _kernel() -> Check:
    is_realtime = _REALTIME.is_file() and _REALTIME.read_text().strip() == "1"
    text = "real-time" if is_realtime else "not real-time; install PREEMPT_RT, see docs/franka.md"
    return Check("kernel", text, is_ok=is_realtime)


def _model(welcome: Welcome, limits: SafetyLimits) -> Check:
    period_s, planned_m = welcome.control_period_s, welcome.action_limits.max_step_m
    text = f"{welcome.model}, {period_s:g} s a step, plans up to {planned_m:g} m per axis"
    speed_m_s = limits.max_step_m / period_s
    if planned_m > limits.max_step_m + 1e-6:
        text += f"; the task clamps to {limits.max_step_m:g} m, so long steps are cut"
    if speed_m_s > limits.max_speed_m_s:
        text += f"; at {limits.max_speed_m_s:g} m/s a full step does not fit the period"
    return Check("model", text, is_ok=True)


def _watch(camera: Camera) -> "list[CapturedFrame] | Check":
    frames: list[CapturedFrame] = []
    end = time.monotonic() + _WATCH_S
    try:
        while time.monotonic() < end:
            captured = camera.newest(_MAX_FRAME_AGE_S)
            if not frames or captured.t_capture != frames[-1].t_capture:
                frames.append(captured)
            time.sleep(0.005)
    except RobotClientError as error:
        return Check("camera", str(error), is_ok=False)
    return frames


def _picture(captured: CapturedFrame) -> Check:
    try:
        check_contrast(captured.frame)
    except RobotClientError as error:
        return Check("picture", str(error), is_ok=False)
    mean = float(captured.frame.mean())
    is_ok = 20.0 < mean < 235.0
    text = f"mean brightness {mean:.0f} of 255"
    return Check("picture", text if is_ok else f"{text}; set the exposure", is_ok=is_ok)


def _rate(frames: list[CapturedFrame]) -> Check:
    if len(frames) < 2:
        return Check(
            "frame rate", f"one frame in {_WATCH_S:g} s; check exposure and cable", is_ok=False
        )
    fps = (len(frames) - 1) / (frames[-1].t_capture - frames[0].t_capture)
    age_ms = 1e3 * (time.monotonic() - frames[-1].t_capture)
    is_ok = fps >= _LEAST_FPS and age_ms < 1e3 * _MAX_FRAME_AGE_S
    return Check("frame rate", f"{fps:.1f} frames/s, the newest {age_ms:.0f} ms old", is_ok=is_ok)


def _place(pose: Vector, limits: SafetyLimits) -> Check:
    low, high = np.array(limits.workspace_low_m), np.array(limits.workspace_high_m)
    away_m = float(np.abs(outside_m(pose[poses.POSITION], low, high)).max())
    tip_m = fingertip_z_m(pose, limits.fingertip_depth_m)
    is_ok = away_m == 0.0 and tip_m >= limits.min_fingertip_z_m
    text = f"fingertips {100 * tip_m:.1f} cm above the base plane"
    if away_m > 0.0:
        text += f"; the flange is {100 * away_m:.1f} cm outside the workspace: jog it in first"
    elif not is_ok:
        text += f", below min_fingertip_z_m {limits.min_fingertip_z_m:g}: jog it up first"
    return Check("place", text, is_ok=is_ok)


def _joints(
    pose: Vector,
    joints_rad: Vector,
    limits: SafetyLimits,
) -> Check:
    margin_rad = fr3_kinematics.joint_margin_rad(joints_rad, limits.joint_limits)
    found = fr3_kinematics.flange(joints_rad)
    error_m = float(np.linalg.norm((found - pose)[poses.POSITION]))
    is_ok = margin_rad > (limits.joint_margin_rad or 0.0) and error_m < 0.01
    text = f"{margin_rad:.2f} rad from the nearest limit, kinematics within {1e3 * error_m:.1f} mm"
    if error_m >= 0.01:
        text += "; the flange is not where the joints say: is the end effector set right in Desk?"
    return Check("joints", text, is_ok=is_ok)
