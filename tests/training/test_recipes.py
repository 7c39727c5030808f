"""Every recipe in the repository: it describes networks that exist, and can be planned."""

from pathlib import Path

import pytest

from models.presets import ENCODER_PRESETS
from models.weights import on_meta
from training.__main__ import main
from training.config import dump_recipe, load_recipe
from training.log import read_table
from training.plan import cost_of
from training.pretrain import MaskedPrediction
from training.pretrain_config import PretrainConfig

FOLDER = Path(__file__).parents[2] / "configs" / "training"
PATHS = sorted(path for path in FOLDER.glob("*.yaml") if "decoder" not in path.stem)
PUBLISHED = {
    "pretrain_vitl_256": "vit_large",
    "pretrain_vith_256": "vit_huge",
    "pretrain_vitg_256": "vit_giant",
    "cooldown_vitl_256": "vit_large",
    "cooldown_vith_256": "vit_huge",
    "cooldown_vitg_256": "vit_giant",
    "cooldown_vitg_384": "vit_giant_384",
}


def published(name):
    return load_recipe(FOLDER / f"{name}.yaml", PretrainConfig)


def command_of(path):
    return (
        "pretrain"
        if path.stem.startswith(("pretrain", "cooldown")) or "_pre" in path.stem
        else "posttrain"
    )


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_dry_run_prints_plan_and_cost(path, capsys):
    assert main([command_of(path), "--config", str(path), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    for line in ("parameters", "FLOP per update", "hours of one GPU", "memory", "checkpoint"):
        assert line in printed


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks_are_built_on_the_meta_device(name):
    config = published(name)
    preset = ENCODER_PRESETS[PUBLISHED[name]]()
    assert config.encoder.model_copy(update={"num_frames": 64}) == preset
    network = on_meta(lambda: MaskedPrediction(config))
    assert all(parameter.is_meta for parameter in network.parameters())
    assert len(network.predictor.mask_tokens) == 10  # as in the published files


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_recipes_have_the_published_batches_and_rates(name):
    config = published(name)
    rate = config.optimiser.learning_rate
    assert config.batch_size == 3072
    assert config.momentum == (0.99925, 0.99925)
    slurm = config.run.slurm
    assert config.groups(0) == slurm.nodes * slurm.tasks_per_node
    if name.startswith("pretrain"):
        assert rate.at(1, config.steps) == pytest.approx(1e-4, rel=1e-3)
        assert rate.at(config.steps, config.steps) == 5.25e-4
    else:
        assert rate.at(config.steps, config.steps) == pytest.approx(1.058e-4, rel=1e-3)
        assert config.start_from is not None
        assert config.start_from.optimiser


def test_a_larger_recipe_costs_more():
    costs = [cost_of(published(f"pretrain_vit{size}_256")).flops for size in "lhg"]
    assert costs == sorted(costs)
    cooldown = published("cooldown_vitg_256")
    assert cost_of(published("cooldown_vitg_384")).flops > cost_of(cooldown).flops


def test_a_recipe_reads_back_what_it_wrote(tmp_path):
    config = published("cooldown_vitg_384")
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(config))
    assert load_recipe(path, PretrainConfig) == config


def test_the_smoke_recipe_learns_in_stages(tmp_path, shards):
    """Its first update of both stages, in bfloat16."""
    arguments = ["pretrain", "--config", str(FOLDER / "smoke_pretrain.yaml")]
    arguments += ["--data", str(shards), "--output", str(tmp_path / "run")]
    changes = ["stages.0.steps=1", "steps=2", "data.clips.frames=6", "run.device=cpu"]
    arguments += [word for change in changes for word in ("--set", change)]
    assert main(arguments) == 0
    assert read_table(tmp_path / "run" / "log.csv")[0]["step"] == 2


@pytest.mark.parametrize("command", [["pretrain", "--dry-run", "--config"], ["cost"]])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a_folder", None),
        ("missing.yaml", b""),
        ("weights.yaml", b"\xff\xfe\x00"),
        ("half.yaml", b"steps: ["),
        ("empty.yaml", b"\n"),
    ],
)
def test_what_is_no_recipe_is_named_in_an_error(command, name, content, tmp_path, capsys):
    (tmp_path / "a_folder").mkdir()
    if content:
        (tmp_path / name).write_bytes(content)
    assert main([*command, str(tmp_path / name)]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert name in said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["predictor.embed_dim=24"], "predictor"),
        (["encoder.rope=null"], "rope"),
        (["data.clips.step_jitter=[2, 1]"], "must rise"),
    ],
)
def test_networks_and_data_that_do_not_fit_are_refused(changes, said, capsys):
    command = ["pretrain", "--config", str(FOLDER / "demo_pretrain.yaml"), "--dry-run"]
    assert main([*command, *(word for each in changes for word in ("--set", each))]) == 1
    assert said in capsys.readouterr().err


def test_a_training_needs_to_know_where_to_write():
    with pytest.raises(SystemExit, match="--output is required"):
        main(["pretrain", "--config", str(FOLDER / "demo_pretrain.yaml")])


def test_recipes_have_a_row_of_costs_and_decoders_none(capsys):
    paths = [str(FOLDER / f"demo_{name}.yaml") for name in ("pretrain", "decoder", "posttrain")]
    assert main(["cost", *paths]) == 0
    first, *_ = capsys.readouterr().out.split("\n\n")
    rows = [line.split(" | ")[0] for line in first.splitlines()[2:]]
    assert rows == ["| demo_pretrain", "| demo_posttrain"]
