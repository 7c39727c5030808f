"""The whole way, through the command line: recordings, an encoder, a world model, a plan."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from models.checkpoint import load_encoder, load_world_model
from planner_server.planning import ActionBounds, Goal, PlanningProblem, planners
from planner_server.planning.rollouts import RolloutEngine
from planner_server.planning.world_model_dynamics import WorldModelDynamics
from training.__main__ import main
from training.config import load_recipe
from training.errors import ConfigurationError
from training.posttrain_config import PosttrainConfig
from training.pretrain_config import PretrainConfig
from trajectories.dataset import open_dataset


def write(path, values):
    path.write_text(yaml.safe_dump(values))
    return str(path)


@pytest.fixture
def pretrain(tmp_path, shards, pretrain_values):
    return write(tmp_path / "pretrain.yaml", pretrain_values(shards))


@pytest.fixture
def posttrain(tmp_path, make_recipe):
    return write(tmp_path / "posttrain.yaml", make_recipe().model_dump(mode="json"))


def test_recordings_become_an_encoder_then_a_world_model_then_a_plan(
    tmp_path, shards, pretrain, posttrain
):
    encoder, output = tmp_path / "encoder", tmp_path / "world_model"
    assert main(["pretrain", "--config", pretrain, "--output", str(encoder)]) == 0
    arguments = ["--config", posttrain, "--data", str(shards), "--encoder", str(encoder)]
    assert main(["posttrain", *arguments, "--output", str(output)]) == 0

    model = load_world_model(output)
    episode = open_dataset(shards).open(0)
    frames = torch.from_numpy(episode.camera(next(iter(episode.cameras))).read([0, 1]))
    now, goal = model.encode(frames)
    planner = planners.make("cem", RolloutEngine(WorldModelDynamics(model)))
    problem = PlanningProblem(
        context_tokens=now,
        context_states=torch.from_numpy(episode.states[:1]),
        goal=Goal.of(goal),
        bounds=ActionBounds.symmetric(model.config.max_action),
    )
    (plan,) = planner.plan([problem])
    assert plan.actions.shape == (1, 7)
    assert abs(plan.actions[0, :3]).max() <= model.config.max_step_m + 1e-9
    assert plan.energy <= plan.energy_do_nothing


def test_a_run_folder_is_a_model_folder_and_says_what_made_it(tmp_path, pretrain):
    folder = tmp_path / "encoder"
    assert main(["pretrain", "--config", pretrain, "--output", str(folder)]) == 0
    assert load_encoder(folder).config == load_recipe(Path(pretrain), PretrainConfig).encoder
    made = json.loads((folder / "config.json").read_text())["metadata"]
    assert made["recipe"]["steps"] == made["step"] == 4
    (launch,) = (folder / "launches.jsonl").read_text().splitlines()
    assert {"commit", "versions", "command", "device"} <= json.loads(launch).keys()
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    assert recipe["training"] == "pretrain"
    assert recipe["optimiser"]["betas"] == [0.9, 0.999]


def test_a_missing_encoder_is_named(tmp_path, shards, posttrain, capsys):
    arguments = ["--config", posttrain, "--data", str(shards), "--encoder", str(tmp_path / "none")]
    assert main(["posttrain", *arguments, "--output", str(tmp_path / "out")]) == 1
    assert "none" in capsys.readouterr().err


def test_missing_data_are_named(tmp_path, pretrain, capsys):
    arguments = ["--data", str(tmp_path / "none"), "--output", str(tmp_path / "out")]
    assert main(["pretrain", "--config", pretrain, *arguments]) == 1
    assert "none" in capsys.readouterr().err


def test_an_unknown_key_in_a_recipe_is_refused(tmp_path, shards, pretrain_values):
    write(tmp_path / "wrong.yaml", pretrain_values(shards, learnign_rate=1))
    with pytest.raises(ConfigurationError, match="learnign_rate"):
        load_recipe(tmp_path / "wrong.yaml", PretrainConfig)


def test_the_command_line_changes_values_of_a_recipe(tmp_path, pretrain):
    path = Path(pretrain)
    changed = load_recipe(
        path, PretrainConfig, ["run.workers=3", "data.*.path=/there", "momentum.0=0.5"]
    )
    assert changed.run.workers == 3
    assert {source.path for source in changed.data.values()} == {"/there"}
    assert changed.momentum == (0.5, 0.99)
    for change, message in (
        ("workers", "key.key=value"),
        ("momentum.7=1", "no item '7'"),
        ("steps.more=1", "no 'more'"),
        ("run.wrokers=3", "wrokers"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            load_recipe(path, PretrainConfig, [change])


def test_a_run_begins_with_the_weights_it_is_told_to(tmp_path, pretrain):
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(["pretrain", "--config", pretrain, "--output", str(first)]) == 0
    for optimiser in ("false", "true"):
        arguments = [f"start_from.path={first}", f"start_from.optimiser={optimiser}", "steps=0"]
        changes = [word for change in arguments for word in ("--set", change)]
        folder = f"{second}-{optimiser}"
        assert main(["pretrain", "--config", pretrain, *changes, "--output", folder]) == 0
        for name, value in load_encoder(first).state_dict().items():
            assert torch.equal(load_encoder(folder).state_dict()[name], value)


@pytest.mark.parametrize(
    ("path", "optimiser", "message"),
    [
        ("nowhere", "false", "nowhere"),
        ("nowhere", "true", "no optimiser state"),
        ("models/shipped", "false", "shape|does not fit"),
    ],
)
def test_weights_that_are_missing_or_of_other_networks_are_refused(
    tmp_path, pretrain, capsys, request, path, optimiser, message
):
    path = request.config.rootpath / path
    changes = ["--set", f"start_from.path={path}", "--set", f"start_from.optimiser={optimiser}"]
    folder = str(tmp_path / "out")
    assert main(["pretrain", "--config", pretrain, *changes, "--output", folder]) == 1
    error = capsys.readouterr().err
    assert any(part in error for part in message.split("|")), error


def test_weights_of_another_rope_are_refused(tmp_path, pretrain, capsys):
    first = tmp_path / "first"
    assert main(["pretrain", "--config", pretrain, "--output", str(first)]) == 0
    (first / "checkpoints").rename(tmp_path / "gone")
    changes = ["encoder.rope=vjepa2_1", "predictor.rope=vjepa2_1", f"start_from.path={first}"]
    arguments = [word for change in changes for word in ("--set", change)]
    folder = str(tmp_path / "out")
    assert main(["pretrain", "--config", pretrain, *arguments, "--output", folder]) == 1
    assert "rope 'vjepa2'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["demo_pretrain.yaml", "demo_posttrain.yaml"])
def test_the_shipped_recipes_are_valid(name, request):
    kind = PretrainConfig if "pretrain" in name else PosttrainConfig
    assert load_recipe(request.config.rootpath / "configs" / "training" / name, kind)
