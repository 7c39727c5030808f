"""Checkpoints as models, in both layouts, and reports of runs."""

import math
import shutil
from xml.etree import ElementTree as ET

import pytest
import torch
import yaml

from models.checkpoint import load_encoder, open_checkpoint
from training.__main__ import main
from training.checkpoints import read_networks
from training.curves import draw_curve
from training.errors import ConfigurationError
from training.pretrain import MaskedPrediction, part_of
from training.pretrain_command import load_start
from training.pretrain_config import PretrainConfig, StartFrom
from training.report import write_report
from training.run_folder import read_run


@pytest.fixture(scope="module")
def run(tmp_path_factory, make_shards, pretrain_values):
    folder = tmp_path_factory.mktemp("run")
    shards = make_shards(folder / "episodes")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(pretrain_values(shards)))
    arguments = ["--config", str(folder / "recipe.yaml"), "--output", str(folder / "run")]
    assert main(["pretrain", *arguments]) == 0
    return folder / "run"


def state_after(run, step):
    return read_networks(run / "checkpoints" / f"step-{step:08d}")


def test_a_checkpoint_in_between_becomes_a_model(run, tmp_path):
    assert main(["export", str(run), str(tmp_path / "model"), "--step", "2"]) == 0
    expected = part_of(state_after(run, 2), "target")
    for name, value in load_encoder(tmp_path / "model").state_dict().items():
        assert torch.equal(value, expected[name])
    assert open_checkpoint(tmp_path / "model").metadata["step"] == 2


def test_the_published_layout_has_the_encoder_and_its_average(run, tmp_path):
    path = tmp_path / "vit.pt"
    assert main(["export", str(run), str(path), "--to", "published"]) == 0
    state = state_after(run, 4)
    contents = open_checkpoint(path)
    for key, part in (("encoder",) * 2, ("target_encoder", "target"), ("predictor",) * 2):
        found = contents.network(key)
        assert found.keys() == part_of(state, part).keys()
        assert all(torch.equal(found[name], v) for name, v in part_of(state, part).items())
    names = torch.load(path, weights_only=True)["encoder"]
    assert all(name.startswith("module.backbone.") for name in names)


def test_a_published_file_is_something_to_begin_with(run, tmp_path):
    path = tmp_path / "vit.pt"
    assert main(["export", str(run), str(path), "--to", "published"]) == 0
    _, values = read_run(run)
    network = MaskedPrediction(PretrainConfig.model_validate(values))
    assert load_start(network, StartFrom(path=str(path))) is None
    for name, value in state_after(run, 4).items():
        assert torch.equal(network.state_dict()[name], value)
    for name, parameter in network.named_parameters():
        assert parameter.requires_grad != name.startswith("target.")


def test_a_step_that_was_not_kept_names_those_that_were(run, tmp_path, capsys):
    assert main(["export", str(run), str(tmp_path / "model"), "--step", "3"]) == 1
    assert "step-00000002, step-00000004" in capsys.readouterr().err


def test_a_report_shows_curves_recipe_and_origin(run, capsys):
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    page = (run / "report.html").read_text()
    for text in ("<svg", "token_std", "4 of 4", "batch_size: 8", "torch ", "commit"):
        assert text in page
    assert "<script" not in page
    assert "http" not in page.replace("https://github.com", "")  # nothing is fetched


def test_a_folder_that_is_no_run_has_no_report(tmp_path):
    with pytest.raises(ConfigurationError, match="is it the output of a training"):
        write_report(tmp_path)


def test_a_curve_stays_inside_of_its_frame_and_leaves_out_what_is_no_number():
    drawn = draw_curve("a<b", list(range(500)), [float("nan"), *(math.sin(x) for x in range(499))])
    root = ET.fromstring(drawn)
    lines = [e.attrib["points"] for e in root.iter() if e.tag.endswith("polyline")]
    assert len(lines) == 2  # the values, and their running mean
    for line in lines:
        places = [tuple(map(float, place.split(","))) for place in line.split()]
        assert all(0 <= x <= 420 and 0 <= y <= 200 for x, y in places)
    assert "a<b" in "".join(root.itertext())
    assert draw_curve("nothing", [1.0], [float("nan")]) == ""
    ET.fromstring(draw_curve("constant", [1.0], [0.0]))


def test_what_cannot_be_exported_is_named(run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "checkpoints" / "step-00000004" / ".metadata").write_bytes(b"")
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    export = ["export", str(copy), str(tmp_path / "model")]
    assert main(export) == 1
    assert "step-00000004 is damaged" in capsys.readouterr().err
    (copy / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "momentum": "much"}))
    assert main(export) == 1
    assert "momentum" in capsys.readouterr().err
    (copy / "recipe.yaml").write_text(yaml.safe_dump({**recipe, "training": "posttrain"}))
    assert main(export) == 1
    assert "copy is a posttrain run; its models are in" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_a_run_that_has_logged_nothing_has_no_report_yet(run, tmp_path, capsys):
    (tmp_path / "recipe.yaml").write_text((run / "recipe.yaml").read_text())
    assert main(["report", str(tmp_path)]) == 1
    assert "has no row in log.csv yet" in capsys.readouterr().err


@pytest.mark.parametrize("count", [401, 500, 800, 1201])
def test_a_long_curve_is_thinned_out_and_keeps_its_end(count):
    drawn = draw_curve("loss", list(range(count)), [float(n) for n in range(count)])
    values, _ = (e for e in ET.fromstring(drawn).iter() if e.tag.endswith("polyline"))
    places = values.attrib["points"].split()
    assert len(places) <= 801
    assert places[-1].startswith("410.0,")
