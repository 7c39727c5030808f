"""The whole way: from files with labels to a judged probe, a page and files that others load."""

import json
import os
import signal

import pytest
import torch
from safetensors.torch import load_file

from training.__main__ import main
from training.commands import UNFINISHED
from training.log import read_events, read_table
from training.probes import probing
from training.probes.results import read_results
from training.run_folder import read_run


def run(recipe, output, *changes):
    arguments = [word for change in changes for word in ("--set", change)]
    return main(["probe", "--config", recipe, "--output", str(output), *arguments])


def weights_of(folder):
    return load_file(folder / "model.safetensors")


def test_a_list_of_clips_becomes_a_judged_probe_and_a_page(probe_values, write_recipe, tmp_path):
    output = tmp_path / "run"
    assert run(write_recipe(probe_values()), output) == 0
    results = read_results(output)
    assert len(results["heads"]) == 4
    assert results["samples"] == 4
    assert max(results["heads"].values()) == results["metrics"]["top1"]
    low, high = results["top1_interval_95"]
    assert low <= results["metrics"]["top1"] <= high
    lines = (output / "predictions.csv").read_text().splitlines()
    assert len(lines) == 5
    page = (output / "report.html").read_text()
    assert "confusion matrix" in page
    assert "data:image/jpeg" in page
    assert "classification, 4 frames x 2 segments x 2 views" in page
    description = json.loads((output / "config.json").read_text())
    assert description["classes"] == ["0", "1"]
    assert description["probe"] == {
        "kind": "attentive", "depth": 1, "num_heads": 4, "mlp_ratio": 4.0, "embed_dim": 48,
    }  # fmt: skip
    assert weights_of(output)["linear.weight"].shape == (2, 48)
    assert read_run(output)[0] == "probe"


def test_a_folder_of_images_becomes_a_judged_probe(probe_values, write_recipe, tmp_path, make):
    for split, count in (("train", 4), ("validation", 2)):
        for number in range(count):
            for name, shade in (("dark", 30), ("bright", 200)):
                make.image(tmp_path / split / name / f"{number}.jpg", shade + 8 * number)
    data = dict(
        task="classification",
        train=dict(kind="folder", path=str(tmp_path / "train")),
        validation=dict(kind="folder", path=str(tmp_path / "validation")),
        augmentation=None,
    )
    values = probe_values(
        data=data, steps=8, probe=dict(kind="linear"), clips=dict(frames=2),
        heads=[dict(learning_rates=[0.1], weight_decays=[0.0])],
    )  # fmt: skip
    assert run(write_recipe(values), tmp_path / "run") == 0
    assert read_results(tmp_path / "run")["metrics"]["top1"] == 1.0
    assert "bright" in (tmp_path / "run" / "predictions.csv").read_text()


def test_nearest_neighbours_need_no_training(probe_values, write_recipe, tmp_path):
    values = probe_values(probe=dict(kind="knn", neighbours=[1, 3]), heads=[], steps=0)
    values["data"]["augmentation"] = None
    assert run(write_recipe(values), tmp_path / "run") == 0
    results = read_results(tmp_path / "run")
    assert set(results["heads"]) == {"1 neighbours", "3 neighbours"}
    assert results["metrics"]["top1"] == 1.0  # dark and bright are far apart
    assert "3 neighbours" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_cached_run_is_the_uncached_run(probe_values, write_recipe, tmp_path, precision):
    values = probe_values()
    values["data"]["draws"] = 2
    values["run"]["precision"] = precision
    recipe = write_recipe(values)
    cache = f"data.cache_path={tmp_path / 'cache'}"
    assert run(recipe, tmp_path / "anew") == 0
    assert run(recipe, tmp_path / "cached", cache) == 0
    anew, cached = (weights_of(tmp_path / name) for name in ("anew", "cached"))
    assert all(torch.equal(anew[name], cached[name]) for name in anew)
    assert read_results(tmp_path / "anew") == read_results(tmp_path / "cached")
    first, second = (read_table(tmp_path / name / "log.csv") for name in ("anew", "cached"))
    assert [row["loss"] for row in first] == [row["loss"] for row in second]


def test_an_interrupted_run_continues_as_if_nothing_had_happened(
    probe_values, write_recipe, tmp_path, monkeypatch
):
    recipe = write_recipe(probe_values())
    assert run(recipe, tmp_path / "whole") == 0
    made = probing.ProbeSource.__call__

    def interrupt(self, step, group):
        if (step, group) == (2, 0):
            os.kill(os.getpid(), signal.SIGTERM)
        return made(self, step, group)

    monkeypatch.setattr(probing.ProbeSource, "__call__", interrupt)
    assert run(recipe, tmp_path / "part") == UNFINISHED
    monkeypatch.undo()
    assert run(recipe, tmp_path / "part") == 0
    whole, part = weights_of(tmp_path / "whole"), weights_of(tmp_path / "part")
    assert all(torch.equal(whole[name], part[name]) for name in whole)
    assert [row["step"] for row in read_table(tmp_path / "part" / "log.csv")] == [1, 2, 3, 4]


def test_unreadable_clips_are_named_and_counted(probe_values, write_recipe, tmp_path, make):
    make.list(tmp_path, "train", 6, bad=(1,))
    make.list(tmp_path, "validation", 4, bad=(2,))
    values = probe_values(data=make.data(tmp_path, max_unreadable=0.5))
    assert run(write_recipe(values), tmp_path / "run") == 0
    results = read_results(tmp_path / "run")
    assert results["samples"] == 3
    assert len(results["unreadable"]) == 1
    assert "validation2.mp4" in results["unreadable"][0]
    warnings = [e["text"] for e in read_events(tmp_path / "run" / "log.jsonl") if "text" in e]
    assert any("train1.mp4" in text for text in warnings)
    assert any("1 validation samples cannot be read" in text for text in warnings)
    assert "validation2.mp4" in (tmp_path / "run" / "report.html").read_text()


def test_too_many_unreadable_clips_are_refused(probe_values, write_recipe, tmp_path, make, capsys):
    make.list(tmp_path, "train", 6)
    make.list(tmp_path, "validation", 4, bad=(0, 2))
    values = probe_values(data=make.data(tmp_path))
    assert run(write_recipe(values), tmp_path / "run") == 1
    error = capsys.readouterr().err
    assert "2 of 4 samples cannot be read" in error
    assert "validation0.mp4" in error


def test_a_head_that_loses_its_way_does_not_disturb_the_others(
    probe_values, write_recipe, tmp_path
):
    calm, wild = (
        dict(weight_decays=[0.0], learning_rates=[1e-3]),
        dict(weight_decays=[0.0], learning_rates=[1e30]),
    )
    output = tmp_path / "both"
    assert run(write_recipe(probe_values(heads=[calm, wild])), output) == 0
    warnings = [e.get("text", "") for e in read_events(output / "log.jsonl")]
    assert any("lower their rates" in text for text in warnings)
    assert all(torch.isfinite(value).all() for value in weights_of(output).values())
    rows = read_table(output / "log.csv")
    assert all(torch.isfinite(torch.tensor(row["loss"])) for row in rows)


def test_a_trained_probe_is_evaluated_again(probe_values, write_recipe, tmp_path):
    recipe = write_recipe(probe_values())
    assert run(recipe, tmp_path / "first") == 0
    again = [f"probe_from={tmp_path / 'first'}", "steps=0"]
    assert run(recipe, tmp_path / "again", *again) == 0
    first, second = (read_results(tmp_path / name) for name in ("first", "again"))
    assert first["metrics"] == second["metrics"]
    assert list(second["heads"]) == ["head 0"]


def test_all_heads_of_a_published_file_are_evaluated_at_once(
    probe_values, write_recipe, tmp_path, encoder_folder
):
    from training.probes.config import AttentiveProbe
    from training.probes.heads import draw_heads

    stack = draw_heads(AttentiveProbe(depth=1, num_heads=4).network(48), 48, (2,), 3, seed=0)
    heads = [
        {f"module.{name}": value for name, value in stack.state_of(head).items()}
        for head in range(3)
    ]
    torch.save({"classifiers": heads}, tmp_path / "published.pt")
    recipe = write_recipe(probe_values(probe_from=str(tmp_path / "published.pt"), steps=0))
    assert run(recipe, tmp_path / "run") == 0
    assert list(read_results(tmp_path / "run")["heads"]) == ["head 0", "head 1", "head 2"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["encoder_from=null"], "no encoder"),
        (["clips.resolution=36"], "multiples of 8 px"),
        (["clips.frames=3"], "of 2 frames"),
        (["out_layers=[0,5]"], "blocks 0 to 1"),
        (["data.classes=1"], "label '1', which is none of the 1 classes"),
        (["data.cache_path=/tmp/none"], "set draws"),
        (["heads=[]"], "heads is empty"),
        (["run.validate_every=0"], "validate_every is 0"),
        (["run.strategy=fsdp"], "use ddp"),
        (["optimiser.clip_norm=1"], "clip_norm null"),
        (["clips.fps=4"], "not both"),
        (["probe.kind=knn"], "depth"),
        (["steps=0"], "no probe_from"),
        (["data.train.path=null"], "--data train=PATH"),
        (
            ["data.train={kind: motion}", "data.validation={kind: motion, speeds: [0.1]}"],
            "`speeds`",
        ),
        (["clips.frame_step=null", "clips.views=2", "clips.geometry=centre_square"], "one view"),
    ],
)
def test_recipes_that_cannot_be_carried_out_say_why(
    probe_values, write_recipe, tmp_path, capsys, changes, message
):
    assert run(write_recipe(probe_values()), tmp_path / "run", *changes) == 1
    assert message in capsys.readouterr().err


def test_a_probe_of_other_classes_is_refused(probe_values, write_recipe, tmp_path, capsys):
    recipe = write_recipe(probe_values())
    assert run(recipe, tmp_path / "first", "data.classes=3") == 0
    assert run(recipe, tmp_path / "again", f"probe_from={tmp_path / 'first'}", "steps=0") == 1
    assert "knows 3 classes of label, the data have 2" in capsys.readouterr().err
    wrong = [f"probe_from={tmp_path / 'first'}", "steps=0", "data.classes=3", "probe.depth=2"]
    assert run(recipe, tmp_path / "again", *wrong) == 1
    assert "that it was trained with" in capsys.readouterr().err


def test_a_trained_probe_is_where_every_head_of_a_grid_begins(probe_values, write_recipe, tmp_path):
    assert run(write_recipe(probe_values()), tmp_path / "first") == 0
    rest = dict(learning_rates=[1e-9, 1e-10], weight_decays=[0.0])
    values = probe_values(heads=[rest], probe_from=str(tmp_path / "first"), steps=2)
    assert run(write_recipe(values), tmp_path / "on") == 0
    assert len(read_results(tmp_path / "on")["heads"]) == 2
    before = weights_of(tmp_path / "first")
    for name, value in weights_of(tmp_path / "on").items():
        torch.testing.assert_close(value, before[name], atol=1e-6, rtol=0)


def test_a_run_whose_heads_are_all_lost_stops_and_names_the_samples(
    probe_values, write_recipe, tmp_path, capsys
):
    wild = dict(weight_decays=[0.0], learning_rates=[1e30])
    values = probe_values(heads=[wild])
    values["optimiser"] = dict(learning_rate=dict(kind="wsd", peak=1.0))
    assert run(write_recipe(values), tmp_path / "run") == 1
    assert "is not finite" in capsys.readouterr().err


@pytest.mark.parametrize("data", ["clips", "test=clips"])
def test_data_of_no_split_are_refused(probe_values, write_recipe, tmp_path, capsys, data):
    command = ["probe", "--config", write_recipe(probe_values()), "--output", str(tmp_path)]
    assert main([*command, "--data", data]) == 1
    assert f"--data {data}: write train=PATH" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("description", "said"), [(None, "is no folder"), ("{", "is no folder"), ("{}", "is no folder")]
)
def test_a_folder_that_no_probe_run_left_is_refused(
    probe_values, write_recipe, tmp_path, capsys, description, said
):
    (tmp_path / "probe").mkdir()
    if description is not None:
        (tmp_path / "probe" / "config.json").write_text(description)
    recipe = write_recipe(probe_values(probe_from=str(tmp_path / "probe"), steps=0))
    assert run(recipe, tmp_path / "run") == 1
    assert f"probe {said} of a probe" in capsys.readouterr().err


def test_the_help_teaches_and_the_plan_lists_every_head(probe_values, write_recipe, capsys):
    with pytest.raises(SystemExit):
        main(["probe", "--help"])
    assert "torchrun" in capsys.readouterr().out
    assert main(["probe", "--config", write_recipe(probe_values()), "--dry-run"]) == 0
    plan = capsys.readouterr().out
    assert "4 heads of kind attentive" in plan
    assert "rate 0.001, decay 0.1" in plan
