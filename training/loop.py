"""The loop that every training runs in: load, update, log, validate, save, continue.

A training says what it learns and from what (`Training`); the loop does everything else. All
randomness is a function of seed, update and group, in the sources of data and in the networks, so a
run that was killed repeats exactly what it would have done, and two processes do what one process
does with the same batch.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic

import torch
from torch import Tensor, nn

from training.batches import BatchSource, BatchT, load_batches, seed_of
from training.checkpoints import Checkpoints, load_checkpoint, write_json
from training.config import OptimiserConfig, TrainingRecipe
from training.distributed import World, accumulating, full_state, share
from training.errors import DivergedError
from training.interruption import Interruption
from training.log import RunLog
from training.optimiser import build_optimiser, clip_gradients, schedule
from training.report import write_report
from training.run_folder import RunFolder

_BEST_FILE = "best.json"


class Training(ABC, Generic[BatchT]):
    """What is learned, and from what.

    Attributes:
        title: What the progress bar says.
        score: Value of `validate` by which the best model is chosen, lower is better; None: the
            finished model counts.
        network: Everything that a checkpoint holds. Called with a batch it returns the loss and
            named values to log, all of them scalars; parameters that do not require gradients
            (a frozen encoder, a moving average) may be among its own.
        source: Makes a group of samples from the numbers of an update and a group.
        start_from: Checkpoint of another run whose parameters and optimiser state a new run begins
            with; None: it begins with the network as it is.
    """

    title: ClassVar[str]
    score: ClassVar[str | None] = None
    network: nn.Module
    source: BatchSource[BatchT]
    start_from: Path | None = None

    def make_optimiser(self, config: OptimiserConfig) -> torch.optim.Optimizer:
        """Make the optimiser of everything that is open to training."""
        return build_optimiser(self.network, config)

    def set_schedule(
        self, optimiser: torch.optim.Optimizer, config: OptimiserConfig, update: int, steps: int
    ) -> float:
        """Set rate and decay for update number `update` (from 1) of `steps`; return the rate."""
        return schedule(optimiser, config, update, steps)

    def after_update(self, step: int) -> None:
        """Do what follows an update; `step` updates are done. Every process calls it."""

    def validate(self, step: int) -> dict[str, float]:  # noqa: ARG002
        """Measure the networks; every process calls it and returns the same values."""
        return {}

    def warnings(self, row: Mapping[str, float]) -> list[str]:  # noqa: ARG002
        """Say what is wrong with a row of the log or of a validation."""
        return []

    @abstractmethod
    def write_model(
        self, state: Mapping[str, Tensor], directory: Path, metadata: Mapping[str, Any]
    ) -> None:
        """Write the model that planning or further training uses; the first process calls it.

        Args:
            state: All parameters of `network`, on the CPU.
            directory: Where to.
            metadata: Origin of the weights, to be stored with them.
        """


@dataclass(frozen=True)
class Outcome:
    """How a call of `train` ended: after how many updates, and whether these were all."""

    step: int
    is_finished: bool


def train(
    training: Training[BatchT], recipe: TrainingRecipe, folder: RunFolder, world: World
) -> Outcome:
    """Run a training to its end, from its last checkpoint if it has one.

    Raises:
        DivergedError: The loss or the gradient is not finite; the last checkpoint is intact.
        ResumeError: The checkpoints do not belong to this recipe, or not to this many processes.
    """
    return _Loop(training, recipe, folder, world).run()


class _Loop(Generic[BatchT]):
    def __init__(
        self, training: Training[BatchT], recipe: TrainingRecipe, folder: RunFolder, world: World
    ) -> None:
        run = recipe.run
        torch.use_deterministic_algorithms(run.deterministic)
        self._training = training
        self._recipe = recipe
        self._folder = folder
        self._world = world
        self._shared = share(training.network, run, world)
        self._optimiser = training.make_optimiser(recipe.optimiser)
        self._checkpoints = Checkpoints(folder.checkpoints, world, run.keep_last)
        self._progress = self._checkpoints.restore(training.network, self._optimiser)
        self._saved_step = self._progress.step
        if training.start_from is not None and not self._progress.step:
            load_checkpoint(training.start_from, training.network, self._optimiser)
        self._log = RunLog(
            folder.path,
            training.title,
            recipe.steps,
            self._progress.step,
            run.trackers,
            quiet=not world.is_main,
        )

    def run(self) -> Outcome:
        run, steps = self._recipe.run, self._recipe.steps
        batches = load_batches(
            self._training.source, self._recipe, self._world, self._progress.step
        )
        with self._log, Interruption() as interruption:
            while self._progress.step < steps:
                started = time.monotonic()
                groups = next(batches)
                loaded = time.monotonic()
                values, must_stop = self._update(groups, stop=interruption.requested)
                values["data_s"] = loaded - started
                values["step_s"] = time.monotonic() - started
                self._report(values)
                done = self._progress.step
                if run.validate_every and (done % run.validate_every == 0 or done == steps):
                    self._validate()
                if done % run.save_every == 0 or must_stop or done == steps:
                    self._save()
                if must_stop and done < steps:
                    return Outcome(done, is_finished=False)
            self._write_model(self._folder.path)
        return Outcome(self._progress.step, is_finished=True)

    def _update(
        self, groups: Sequence[tuple[int, BatchT]], *, stop: bool
    ) -> tuple[dict[str, float], bool]:
        """Make one update; return what to log, and whether any process was asked to stop."""
        recipe, step = self._recipe, self._progress.step
        total = recipe.groups(step)
        rate = self._training.set_schedule(
            self._optimiser, recipe.optimiser, step + 1, recipe.steps
        )
        self._optimiser.zero_grad(set_to_none=True)
        losses, metrics = [], []
        for position, (group, batch) in enumerate(groups):
            torch.manual_seed(seed_of(recipe.seed, step, group))
            last = position == len(groups) - 1
            with accumulating(self._shared, last=last):
                loss, named = self._forward(batch.to(self._world.device))
                # Every process averages over its groups, and the processes are averaged.
                (loss * (self._world.size / total)).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
            metrics.append(named)
        mine = torch.stack(losses).float()
        skipped = sum(len(batch.skipped) for _, batch in groups)
        shared = torch.stack(
            [mine.mean(), (~mine.isfinite()).any().float(), *mine.new_tensor([skipped, stop])]
        )
        loss_mean, bad, skipped_mean, any_stop = self._world.mean(shared).tolist()
        if bad:
            self._refuse(groups, mine)
        if skipped_mean:
            self._report_skipped([name for _, batch in groups for name in batch.skipped])
        norm = clip_gradients(self._training.network, recipe.optimiser)
        if not math.isfinite(norm):
            self._refuse(groups, mine)
        self._optimiser.step()
        self._training.after_update(step + 1)
        self._progress = replace(self._progress, step=step + 1)
        values = {
            "loss": loss_mean,
            "rate": rate,
            "gradient_norm": norm,
            "skipped": skipped_mean * self._world.size,
            **_mean(metrics),
        }
        return values, bool(any_stop)

    def _forward(self, batch: BatchT) -> tuple[Tensor, dict[str, Tensor]]:
        enabled = self._recipe.run.precision == "bf16"
        with torch.autocast(self._world.device.type, torch.bfloat16, enabled=enabled):
            loss, values = self._shared(batch)
        return loss, values

    def _refuse(self, groups: Sequence[tuple[int, BatchT]], losses: Tensor) -> None:
        """Stop before the networks are spoilt, and say which samples did it."""
        step = self._progress.step
        suspects = [
            f"group {group} ({', '.join(batch.names) or 'unnamed'})"
            for (group, batch), loss in zip(groups, losses.tolist(), strict=True)
            if not math.isfinite(loss)
        ]
        suspects = [name for names in self._world.gather(suspects) for name in names]
        what = f"the loss of {'; '.join(suspects)}" if suspects else "the gradient"
        self._log.note("diverged", step, what=what)
        raise DivergedError(
            f"update {step + 1}: {what} is not finite; nothing was updated, and the checkpoint "
            f"after {self._saved_step} updates is intact. Look at those samples, or lower the "
            "learning rate"
        )

    def _report(self, values: dict[str, float]) -> None:
        done = self._progress.step
        self._log.collect(done, values)
        if done % self._recipe.run.log_every == 0 or done == self._recipe.steps:
            row = self._log.take_means()
            row["samples_per_s"] = self._recipe.batch_size / row["step_s"]
            self._log.write_row(done, row)
            for text in self._training.warnings(row):
                self._log.warn(done, text)

    def _report_skipped(self, mine: list[str]) -> None:
        names = [name for part in self._world.gather(mine) for name in part]
        for name in names:
            self._log.warn(self._progress.step, f"skipped {name}")

    def _validate(self) -> None:
        """Measure, warn, and keep the model if it is the best so far."""
        done = self._progress.step
        network = self._training.network.eval()
        with torch.no_grad():
            values = self._training.validate(done)
        network.train()
        self._log.write_validation(done, values)
        for text in self._training.warnings(values):
            self._log.warn(done, text)
        name = self._training.score
        if name is None:
            return
        best = self._progress.best_score
        if best is None or values[name] < best:
            self._progress = replace(self._progress, best_step=done, best_score=values[name])
            self._write_model(self._folder.best)
            if self._world.is_main:
                write_json(self._folder.best / _BEST_FILE, {"step": done, name: values[name]})

    def _save(self) -> None:
        self._checkpoints.save(self._training.network, self._optimiser, self._progress)
        self._saved_step = self._progress.step
        if self._log.has_rows:
            write_report(self._folder.path)

    def _write_model(self, directory: Path) -> None:
        state = full_state(self._training.network)
        if self._world.is_main:
            metadata = {
                "step": self._progress.step,
                "recipe": self._recipe.model_dump(mode="json"),
                "processes": self._world.size,
            }
            self._training.write_model(state, directory, metadata)
        self._world.barrier()


def _mean(metrics: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """Average named scalars over groups; a name that a group lacks is averaged over the others."""
    names = list(dict.fromkeys(name for values in metrics for name in values))
    if not names:
        return {}
    means = [
        torch.stack([values[name].detach().float() for values in metrics if name in values]).mean()
        for name in names
    ]
    return dict(zip(names, torch.stack(means).tolist(), strict=True))
