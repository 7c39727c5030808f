"""The loop: interrupted runs continue exactly, bad numbers stop it, the best and the last are kept."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor, nn

from training.__main__ import main
from training.batches import Batch, check_world, seed_of
from training.commands import UNFINISHED
from training.config import TrainingRecipe
from training.distributed import World, open_world
from training.errors import ConfigurationError, DivergedError, ResumeError
from training.log import RunLog, read_events, read_table
from training.loop import Training, train
from training.pretrain import Pretraining
from training.report import write_report
from training.run_folder import open_run_folder

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Numbers(Batch):
    x: Tensor


@dataclass(frozen=True)
class NumberSource:
    """Two samples of noise; the ones of some groups are bad."""

    bad: tuple[tuple[int, int], ...] = ()
    unreadable: tuple[tuple[int, int], ...] = ()

    def __call__(self, step, group):
        x = torch.randn(2, 4, generator=torch.Generator().manual_seed(seed_of(step, group)))
        if (step, group) in self.bad:
            x[0, 0] = float("nan")
        skipped = (f"broken-{step}-{group}: cut short",) if (step, group) in self.unreadable else ()
        return Numbers(x, names=(f"clip-{step}-{group}",), skipped=skipped)


class Line(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.dropout = nn.Dropout(0.2)
        self.unused = nn.Parameter(torch.zeros(3))

    def forward(self, batch):
        loss = (self.layer(self.dropout(batch.x)) - batch.x.flip(-1)).abs().mean()
        return loss, {"weight": self.layer.weight.detach().mean()}


class Toy(Training):
    title = "toy"
    score = "error"

    def __init__(self, source=None, errors=()):
        torch.manual_seed(0)
        self.network = Line()
        self.source = source or NumberSource()
        self._errors = dict(errors)

    def validate(self, step):
        return {"error": self._errors.get(step, 1.0)}

    def warnings(self, row):
        return ["the error is high"] if row.get("error", 0.0) > 5 else []

    def write_model(self, state, directory, metadata):
        directory.mkdir(exist_ok=True)
        torch.save(dict(state), directory / "model.pt")
        (directory / "metadata.json").write_text(json.dumps(metadata))


def recipe(**changes):
    run = dict(device="cpu", precision="fp32", log_every=1, save_every=2) | changes.pop("run", {})
    values = dict(
        steps=6,
        batch_size=8,
        micro_batch_size=2,
        optimiser=dict(learning_rate=dict(kind="wsd", peak=0.05)),
        run=run,
    )
    return TrainingRecipe.model_validate({**values, **changes})


def start(folder, toy=None, **changes):
    config = recipe(**changes)
    opened = open_run_folder(folder, "toy", config, World())
    return train(toy or Toy(), config, opened, World())


def losses(folder):
    return {row["step"]: row["loss"] for row in read_table(folder / "log.csv")}


def weights(folder):
    return torch.load(folder / "model.pt", weights_only=True)


def test_a_run_that_stopped_continues_as_if_it_had_not(tmp_path):
    start(tmp_path / "whole")
    broken = Toy(NumberSource(bad=((4, 1),)))
    with pytest.raises(DivergedError):
        start(tmp_path / "parts", broken)
    outcome = start(tmp_path / "parts")
    assert outcome.is_finished
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == 6
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(value, weights(tmp_path / "parts")[name])


def test_a_loss_that_is_no_number_names_its_samples_and_leaves_the_checkpoint(tmp_path):
    with pytest.raises(DivergedError, match=r"update 4: .*group 2 \(clip-3-2\).*after 2 updates"):
        start(tmp_path, Toy(NumberSource(bad=((3, 2),))))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]
    assert read_events(tmp_path / "log.jsonl")[-1]["kind"] == "diverged"


def test_unreadable_samples_are_named_and_counted(tmp_path, capsys):
    start(tmp_path, Toy(NumberSource(unreadable=((1, 0), (1, 3)))))
    warnings = [e["text"] for e in read_events(tmp_path / "log.jsonl") if e["kind"] == "warning"]
    assert warnings == ["skipped broken-1-0: cut short", "skipped broken-1-3: cut short"]
    assert read_table(tmp_path / "log.csv")[1]["skipped"] == 2
    assert "broken-1-0" in capsys.readouterr().out


def test_the_last_checkpoints_and_the_best_are_kept(tmp_path):
    errors = {2: 3.0, 4: 0.5, 6: 2.0, 8: 2.0, 10: 9.0}
    start(tmp_path, Toy(errors=errors), steps=10, run=dict(validate_every=2, keep_last=2))
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step-00000004", "step-00000008", "step-00000010"]
    assert json.loads((tmp_path / "best" / "best.json").read_text()) == {"step": 4, "error": 0.5}
    assert json.loads((tmp_path / "best" / "metadata.json").read_text())["step"] == 4
    assert [row["error"] for row in read_table(tmp_path / "validation.csv")] == list(
        errors.values()
    )
    assert read_events(tmp_path / "log.jsonl")[-1]["text"] == "the error is high"


def test_a_finished_run_is_left_as_it_is(tmp_path):
    start(tmp_path)
    before = losses(tmp_path)
    assert start(tmp_path).step == 6
    assert losses(tmp_path) == before


def test_another_recipe_is_refused_in_the_same_folder(tmp_path):
    start(tmp_path)
    with pytest.raises(ResumeError, match=r"optimiser.learning_rate.peak.*changed"):
        start(tmp_path, optimiser=dict(learning_rate=dict(kind="wsd", peak=0.1)))
    start(tmp_path, run=dict(keep_last=5))  # how it runs may change


def test_data_and_caches_may_move_between_two_launches(tmp_path):
    class DataRecipe(TrainingRecipe):
        path: str
        cache_path: str
        encoder_from: str = "here"

    values = recipe().model_dump()
    config = DataRecipe.model_validate({**values, "path": "disk/a", "cache_path": "disk/b"})
    train(Toy(), config, open_run_folder(tmp_path, "toy", config, World()), World())
    moved = config.model_copy(update={"path": "scratch/a", "cache_path": "scratch/b"})
    open_run_folder(tmp_path, "toy", moved, World())
    with pytest.raises(ResumeError, match="encoder_from changed"):
        open_run_folder(
            tmp_path, "toy", moved.model_copy(update={"encoder_from": "there"}), World()
        )


def test_no_steps_keep_the_initial_weights(tmp_path):
    start(tmp_path, steps=0)
    torch.testing.assert_close(weights(tmp_path), dict(Toy().network.state_dict()))


def test_gradients_are_averaged_over_groups_of_any_number(tmp_path):
    class Split(NumberSource):
        def __call__(self, step, group):
            parts = [super(Split, self).__call__(step, 2 * group + i).x for i in (0, 1)]
            return Numbers(torch.cat(parts))

    def quiet(source):
        toy = Toy(source)
        toy.network.dropout.p = 0.0
        return toy

    start(tmp_path / "four", quiet(NumberSource()))
    start(tmp_path / "two", quiet(Split()), micro_batch_size=4)
    torch.testing.assert_close(weights(tmp_path / "four"), weights(tmp_path / "two"))


def test_loading_processes_change_nothing(tmp_path):
    start(tmp_path / "inline")
    start(tmp_path / "workers", run=dict(workers=1))
    assert losses(tmp_path / "inline") == losses(tmp_path / "workers")


def test_a_number_of_processes_that_cannot_share_the_batch_is_refused():
    check_world(recipe(), World(size=4))
    with pytest.raises(ResumeError, match=r"3 processes cannot share 4 groups.*start 1, 2, 4"):
        check_world(recipe(), World(size=3))


def test_a_damaged_checkpoint_is_named(tmp_path):
    start(tmp_path)
    newest = tmp_path / "checkpoints" / "step-00000006"
    next(newest.glob("*.distcp")).write_bytes(b"cut short")
    with pytest.raises(ResumeError, match="step-00000006"):
        start(tmp_path)


def test_a_checkpoint_of_other_networks_is_refused(tmp_path):
    start(tmp_path)
    other = Toy()
    other.network.layer = nn.Linear(4, 3)
    with pytest.raises(ResumeError, match="belongs to other networks"):
        start(tmp_path, other)


def test_a_checkpoint_appears_whole_or_not_at_all(tmp_path):
    start(tmp_path, steps=2)
    (tmp_path / "checkpoints" / "step-00000009.partial").mkdir()
    assert start(tmp_path, steps=2).step == 2


def test_a_checkpoint_before_the_first_row_of_the_log_is_no_reason_to_stop(tmp_path):
    outcome = start(tmp_path, run=dict(log_every=5, save_every=1))
    assert outcome.is_finished
    assert (tmp_path / "report.html").is_file()


def test_what_a_killed_process_left_half_written_goes_with_the_next_checkpoint(tmp_path):
    for name in ("step-00000001.partial", "step-00000004.partial"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    start(tmp_path)
    assert [path.suffix for path in (tmp_path / "checkpoints").iterdir()] == ["", ""]


def test_a_checkpoint_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    events = []
    monkeypatch.setattr("trajectories.storage.sync", lambda path: events.append(path.name))
    rename = Path.rename

    def record_rename(path, target):
        events.append(f"{path.name} -> {Path(target).name}")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", record_rename)
    start(tmp_path, steps=2)
    named = events.index("step-00000002.partial -> step-00000002")
    written = {p.name for p in (tmp_path / "checkpoints" / "step-00000002").iterdir()}
    assert {*written, "step-00000002.partial"} <= set(events[:named])
    assert "checkpoints" in events[named:]


def test_a_line_that_was_cut_off_does_not_keep_a_run_from_going_on(tmp_path):
    start(tmp_path, steps=4)
    for name, half in (("log.csv", "1,0.2,3e"), ("log.jsonl", '{"ti'), ("launches.jsonl", '{"st')):
        with (tmp_path / name).open("a") as file:
            file.write(half)
    rows = read_table(tmp_path / "log.csv")
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    write_report(tmp_path)
    start(tmp_path, steps=4)
    launches = (tmp_path / "launches.jsonl").read_text().splitlines()
    assert len([json.loads(line) for line in launches]) == 2


def test_a_damaged_recipe_is_named_and_not_taken_for_none(tmp_path):
    start(tmp_path)
    for content in ("", "steps: [6"):
        (tmp_path / "recipe.yaml").write_text(content)
        with pytest.raises(ConfigurationError, match="recipe"):
            start(tmp_path, optimiser=dict(learning_rate=dict(kind="wsd", peak=0.1)))


def test_an_output_that_can_be_no_folder_is_named_before_anything_is_learned(tmp_path):
    (tmp_path / "notes").write_text("")
    with pytest.raises(ConfigurationError, match=r"notes.* cannot be made .*write elsewhere"):
        start(tmp_path / "notes")


def test_a_gradient_that_is_not_finite_stops_the_run_before_it_spoils_the_weights(tmp_path):
    class Cusp(Line):
        """The loss is a number, and its slope is not: a root at zero."""

        def forward(self, batch):
            loss, values = super().forward(batch)
            weight = self.layer.weight
            return loss + (weight - weight.detach()).abs().sum().sqrt(), values

    toy = Toy()
    toy.network = Cusp()
    before = {name: value.clone() for name, value in toy.network.state_dict().items()}
    with pytest.raises(DivergedError, match="update 1: the gradient is not finite"):
        start(tmp_path, toy)
    assert all(torch.equal(value, before[n]) for n, value in toy.network.state_dict().items())
    (event,) = read_events(tmp_path / "log.jsonl")
    assert (event["kind"], event["what"]) == ("diverged", "the gradient")


def test_one_process_that_shards_learns_what_one_that_does_not_learns(tmp_path):
    start(tmp_path / "whole")
    folder = open_run_folder(tmp_path / "sharded", "toy", recipe(), World())
    config = recipe(run=dict(strategy="fsdp"))
    with open_world(config.run) as world:
        train(Toy(), config, folder, world)
    expected, found = weights(tmp_path / "whole"), weights(tmp_path / "sharded")
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_a_damaged_state_is_named_and_the_checkpoint_before_it_is_enough(tmp_path):
    start(tmp_path / "whole", steps=6)
    start(tmp_path / "cut", steps=4)
    newest = tmp_path / "cut" / "checkpoints" / "step-00000004"
    (newest / "state.json").write_text("")
    with pytest.raises(ResumeError, match=r"step-00000004 is damaged .*use the one before"):
        start(tmp_path / "cut", steps=4)
    shutil.rmtree(newest)
    start(tmp_path / "cut", steps=4)
    assert losses(tmp_path / "cut") == {s: losses(tmp_path / "whole")[s] for s in range(1, 5)}


def test_throughput_is_samples_over_time_whatever_single_updates_took(tmp_path):
    class Stalling(Toy):
        def after_update(self, step):
            time.sleep(0.3 if step == 3 else 0.0)

    start(tmp_path, Stalling(), run=dict(log_every=6))
    (row,) = read_table(tmp_path / "log.csv")
    assert row["samples_per_s"] == pytest.approx(8 / row["step_s"])
    assert row["samples_per_s"] < 6 * 8 / 0.3


def test_every_row_of_the_log_is_written_whatever_a_step_reports(tmp_path):
    with RunLog(tmp_path, "rows", 4, quiet=False) as log:
        for step in (1, 2, 3, 4):
            log.collect(step, {"loss": float(step), **({"rollout": 10.0} if step == 2 else {})})
            if step % 2 == 0:
                log.write_row(step, log.take_means())
    rows = read_table(tmp_path / "log.csv")
    assert rows == [{"step": 2, "loss": 1.5, "rollout": 10.0}, {"step": 4, "loss": 3.5}]


def test_a_continued_log_drops_rows_that_are_made_again(tmp_path):
    with RunLog(tmp_path, "rows", 4) as log:
        for step in (1, 2, 3):
            log.collect(step, {"loss": float(step)})
            log.write_row(step, log.take_means())
    with RunLog(tmp_path, "rows", 4, done=2) as log:
        log.collect(3, {"loss": 33.0, "extra": 1.0})
        log.write_row(3, log.take_means())
    assert [row["loss"] for row in read_table(tmp_path / "log.csv")] == [1.0, 2.0, 33.0]
    assert [event["loss"] for event in read_events(tmp_path / "log.jsonl")] == [1.0, 2.0, 33.0]


def test_rows_go_to_tensorboard_when_asked(tmp_path):
    pytest.importorskip("tensorboard")
    start(tmp_path, run=dict(trackers=["tensorboard"]))
    assert list((tmp_path / "tensorboard").glob("events*"))


def pretraining(tmp_path, shards, pretrain_values, **changes):
    """Arguments of a pretraining of thirty updates."""
    path = tmp_path / "recipe.yaml"
    values = pretrain_values(shards, steps=30, batch_size=4, **changes)
    path.write_text(yaml.safe_dump(values))
    return ["pretrain", "--config", str(path), "--output"]


def start_process(arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    return subprocess.Popen(
        [sys.executable, "-m", "training", *arguments],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_rows(process, folder, rows):
    deadline = time.monotonic() + 400
    while len(losses(folder)) < rows and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.timeout(600)
def test_a_killed_run_continues_with_the_losses_it_would_have_had(
    tmp_path, shards, pretrain_values
):
    arguments = pretraining(tmp_path, shards, pretrain_values)
    assert main([*arguments, str(tmp_path / "whole")]) == 0
    process = start_process([*arguments, str(tmp_path / "killed")])
    wait_for_rows(process, tmp_path / "killed", 5)
    process.kill()
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert main([*arguments, str(tmp_path / "killed")]) == 0
    whole, killed = losses(tmp_path / "whole"), losses(tmp_path / "killed")
    assert list(killed) == list(range(1, 31))
    assert killed == pytest.approx(whole, rel=1e-6)


def test_a_run_that_is_asked_to_stop_ends_its_update_and_saves(
    tmp_path, shards, pretrain_values, monkeypatch, capsys
):
    average = Pretraining.after_update

    def stop_in_the_third_update(self, step):
        if step == 3:
            signal.raise_signal(signal.SIGTERM)
        average(self, step)

    monkeypatch.setattr(Pretraining, "after_update", stop_in_the_third_update)
    arguments = pretraining(tmp_path, shards, pretrain_values)
    folder = tmp_path / "asked"
    assert main([*arguments, str(folder), "--set", "run.save_every=1000"]) == UNFINISHED
    assert "start the same command again" in capsys.readouterr().err
    (checkpoint,) = (folder / "checkpoints").iterdir()
    assert json.loads((checkpoint / "state.json").read_text())["step"] == len(losses(folder)) == 4


def test_a_tracker_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigurationError, match="pip install wandb"):
        start(tmp_path, run=dict(trackers=["wandb"]))


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_blocks_learn_the_same(tmp_path, shards, pretrain_values):
    arguments = pretraining(tmp_path, shards, pretrain_values)
    changes = ["--set", "steps=3", "--set"]
    assert main([*arguments, str(tmp_path / "plain"), *changes, "run.compile=false"]) == 0
    assert main([*arguments, str(tmp_path / "compiled"), *changes, "run.compile=true"]) == 0
    plain, compiled = losses(tmp_path / "plain"), losses(tmp_path / "compiled")
    assert compiled == pytest.approx(plain, rel=1e-4)
