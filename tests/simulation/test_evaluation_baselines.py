import numpy as np

from simulation.evaluation.baselines import PixelEnergy, random, true_dynamics
from simulation.stepper import OfflineWorkcell
from simulation.tasks import make_task

FRAME, STATE = np.zeros((256, 256, 3), np.uint8), np.zeros(7)


def test_random_actions_stay_in_the_box_and_depend_on_the_seed():
    tasks = [make_task("reach", seed) for seed in (1, 1, 2)]
    actions = [random(task, None).act(FRAME, STATE, 0) for task in tasks]
    assert np.array_equal(actions[0], actions[1])
    assert not np.array_equal(actions[0], actions[2])
    assert max(np.abs(action).max() for action in actions) <= 0.15


def test_pixels_are_at_no_distance_from_themselves():
    goal = make_task("reach", 1).sub_goals[0].image
    energy = PixelEnergy()
    energy.begin([goal])
    assert energy.energies([goal, 255 - goal], 0)[0] == 0.0
    assert energy.energies([255 - goal], 0)[0] > 10


def test_a_search_with_the_simulator_comes_nearer_and_leaves_the_workcell_as_it_was():
    task = make_task("reach", 1, start_distance_m=(0.04, 0.06))
    workcell = OfflineWorkcell(task.variation)
    workcell.reset(task.start)
    policy = true_dynamics(task, workcell)
    policy.begin([task.sub_goals[0].image])
    before = workcell.state()
    action = policy.act(workcell.render(), before, 0)
    assert np.array_equal(workcell.state(), before)
    assert policy.numbers["energy"] < policy.numbers["energy_now"]
    workcell.act(action)
    goal_m = task.sub_goals[0].pose[:3]
    assert np.linalg.norm(goal_m - workcell.state()[:3]) < 0.5 * np.linalg.norm(goal_m - before[:3])
