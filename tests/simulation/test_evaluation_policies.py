"""What crosses to a policy, and what does not."""

import dataclasses
import os
import sys
import time

import numpy as np
import pytest

from simulation.errors import PolicyError
from simulation.evaluation import policy_process
from simulation.evaluation.episode import run_episode
from simulation.evaluation.policy import PolicySpec
from simulation.evaluation.policy_process import PolicyProcess, pack, unpack
from simulation.stepper import OfflineWorkcell
from simulation.tasks import make_task

TOY = '''
import os
import sys
import threading
import time

import numpy as np


class Toy:
    """Moves by what it sees: the brightness of frame and goal."""

    def __init__(self, gain=0.1):
        self.gain = gain
        self.description = {"gain": gain, "modules": sorted(sys.modules)}
        self.numbers = {}

    def begin(self, goals):
        self.goals = [float(goal.mean()) for goal in goals]

    def act(self, frame, state, goal_index):
        if frame.max() == 0:
            raise RuntimeError("it is dark")
        action = np.zeros(7)
        action[:3] = self.gain * (frame[::4, ::4].mean(axis=(0, 1)) / 255 - 0.5)
        action[2] += 1e-3 * (self.goals[goal_index] - 100) / 255 + 1e-3 * state[0]
        self.numbers = {"energy_now": float(frame.mean())}
        return action


def make(gain=0.1):
    return Toy(gain)


class Crashing(Toy):
    def act(self, frame, state, goal_index):
        os._exit(3)


def make_staying(seconds):
    threading.Thread(target=time.sleep, args=(seconds,)).start()
    toy = Toy()
    toy.description["pid"] = os.getpid()
    return toy


no_function = 3
'''


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toys")
    (folder / "toy_policies.py").write_text(TOY)
    sys.path.insert(0, str(folder))
    yield "toy_policies:make"
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def toy(toys):
    with PolicyProcess(PolicySpec.parse(f"{toys}?gain=0.08")) as policy:
        yield policy


def short(task, budget=2):
    goals = tuple(dataclasses.replace(goal, step_budget=budget) for goal in task.sub_goals)
    return dataclasses.replace(task, sub_goals=goals)


def falsified(task):
    """The same task with another truth behind the same images."""
    goals = tuple(
        dataclasses.replace(goal, pose=goal.pose + 0.3 * np.arange(7)) for goal in task.sub_goals
    )
    return dataclasses.replace(
        task,
        seed=task.seed + 17,
        sub_goals=goals,
        object_start_m=task.object_start_m + 1.0,
        place_m=(9.0, 9.0),
    )


def actions(task, policy, workcell=None):
    return [step.action for step in run_episode(task, policy, workcell=workcell).steps]


def test_only_frames_states_goal_images_and_the_goals_number_are_sent(toy, monkeypatch):
    sent = []
    monkeypatch.setattr(
        policy_process, "pack", lambda message: sent.append(message) or pack(message)
    )
    run_episode(short(make_task("grasp", 1)), toy)
    kinds = {
        tuple(sorted((name, str(value.dtype), value.shape) for name, value in message.items()))
        for message in sent
    }
    assert kinds == {
        (("goals", "uint8", (2, 256, 256, 3)),),
        (
            ("frame", "uint8", (256, 256, 3)),
            ("goal_index", "int64", ()),
            ("state", "float64", (7,)),
        ),
    }


def test_the_process_of_a_policy_never_loads_the_simulator(toy):
    loaded = set(toy.description["modules"])
    assert "simulation.evaluation.policy" in loaded
    assert not loaded & {"mujoco", "simulation.stepper", "simulation.tasks", "simulation.truth"}


def test_another_truth_behind_the_same_pictures_changes_no_action(toy):
    task = short(make_task("pick_and_place", 2))
    assert actions(falsified(task), toy) == actions(task, toy)


def test_other_pictures_over_the_same_truth_change_the_actions(toy):
    task = short(make_task("reach", 2))
    brighter = dataclasses.replace(task.variation, light_intensity=0.9, ambient=0.6)
    assert actions(task, toy, OfflineWorkcell(brighter)) != actions(task, toy)
    blank = np.zeros_like(task.sub_goals[0].image)
    hidden = dataclasses.replace(
        task, sub_goals=(dataclasses.replace(task.sub_goals[0], image=blank),)
    )
    assert actions(hidden, toy) != actions(task, toy)


def test_an_episode_does_not_depend_on_those_before_it(toy):
    first, second = short(make_task("reach", 3)), short(make_task("grasp", 4))
    alone = actions(first, toy)
    run_episode(second, toy)
    assert actions(first, toy) == alone


def test_the_shipped_planner_acts_on_what_it_is_shown_alone():
    task = short(make_task("grasp", 5), budget=1)
    with PolicyProcess(PolicySpec.parse("planner_server.policy:served")) as policy:
        seen = actions(task, policy)
        assert actions(falsified(task), policy) == seen
        brighter = dataclasses.replace(task.variation, light_intensity=0.9, ambient=0.6)
        assert actions(task, policy, OfflineWorkcell(brighter)) != seen
        assert policy.description["planner"]
        assert len(policy.description["sha256"]) == 64
        assert {"energy_now", "energy", "plan_ms"} <= set(policy.numbers)


def test_what_a_policy_says_and_how_it_was_made_come_back(toy):
    assert toy.description["gain"] == 0.08
    toy.begin([np.full((256, 256, 3), 7, np.uint8)])
    action = toy.act(np.full((256, 256, 3), 51, np.uint8), np.zeros(7), 0)
    assert action.shape == (7,)
    assert toy.numbers == {"energy_now": 51.0}
    assert toy.imagine(np.zeros((256, 256, 3), np.uint8), np.zeros(7), np.zeros((1, 7))) is None


def test_a_policy_that_fails_is_reported_with_its_reason(toys):
    with PolicyProcess(PolicySpec.parse(toys)) as policy:
        policy.begin([np.zeros((256, 256, 3), np.uint8)])
        with pytest.raises(PolicyError, match="it is dark"):
            policy.act(np.zeros((256, 256, 3), np.uint8), np.zeros(7), 0)


def test_a_policy_whose_process_ends_is_reported_and_stays_gone(toys):
    frame = np.zeros((256, 256, 3), np.uint8)
    with PolicyProcess(PolicySpec.parse("toy_policies:Crashing")) as policy:
        policy.begin([frame])
        for _ in range(2):
            with pytest.raises(PolicyError, match=r"toy_policies:Crashing (ended|is gone)"):
                policy.act(frame, np.zeros(7), 0)


def test_a_policy_that_does_not_leave_is_ended(toys, monkeypatch):
    monkeypatch.setattr(policy_process, "_PATIENCE_S", 0.3)
    policy = PolicyProcess(PolicySpec.parse("toy_policies:make_staying?seconds=100"))
    started_s = time.monotonic()
    policy.close()
    assert time.monotonic() - started_s < 60
    with pytest.raises(ProcessLookupError):
        os.kill(policy.description["pid"], 0)


@pytest.mark.parametrize(
    ("frame", "state", "said"),
    [
        (np.zeros((8, 8, 3)), np.zeros(7), r"uint8 \[H, W, 3\], not float64 \[8, 8, 3\]"),
        (np.zeros((8, 8), np.uint8), np.zeros(7), r"not uint8 \[8, 8\]"),
        (np.zeros((8, 8, 3), np.uint8), np.zeros(6), r"float64 \[7\], not \[6\]"),
    ],
)
def test_what_is_no_frame_or_no_state_does_not_cross(toy, frame, state, said):
    with pytest.raises(PolicyError, match=said):
        toy.act(frame, state, 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("toy_policies:nothing", "does not exist"),
        ("no_such_module:make", "does not exist"),
        ("toy_policies:no_function", "is no function"),
        ("toy_policies:make?size=3", "cannot be made"),
    ],
)
def test_a_policy_that_cannot_be_made_says_why(toys, text, said):
    with pytest.raises(PolicyError, match=said):
        PolicySpec.parse(text).make()


def test_a_policy_that_cannot_be_made_elsewhere_says_why(toys):
    with pytest.raises(PolicyError, match="cannot be made"):
        PolicyProcess(PolicySpec.parse(f"{toys}?size=3"))


@pytest.mark.parametrize("text", ["", "module", "module:", ":factory", "module:factory?option"])
def test_names_of_another_form_are_refused(text):
    with pytest.raises(PolicyError, match=r"package\.module:factory"):
        PolicySpec.parse(text)


def test_names_of_policies_are_read_as_they_are_written():
    text = "a.b:make?count=3&name=x/y&share=0.5&wide=true"
    spec = PolicySpec.parse(text)
    assert spec.options == {"count": 3, "name": "x/y", "share": 0.5, "wide": True}
    assert str(spec) == text
    assert PolicySpec.parse(str(spec.having(count=4))).options["count"] == 4


def test_messages_hold_arrays_and_no_objects():
    arrays = {"a": np.arange(3, dtype=np.uint8), "b": np.float64(2.5)}
    back = unpack(pack(arrays))
    assert np.array_equal(back["a"], arrays["a"])
    assert float(back["b"]) == 2.5
    with pytest.raises(ValueError, match="allow_pickle"):
        unpack(pack({"a": np.array([object()])}))
