"""Probes as the training loop runs them: all heads of the grid in one pass over the data.

Letters in shapes: H heads of the grid, B samples, N tokens, D channels, Q questions, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from training.batches import Batch
from training.config import OptimiserConfig
from training.distributed import World, full_state
from training.loop import Training
from training.probes.config import ProbeConfig
from training.probes.evaluation import Evaluation, Task, evaluate
from training.probes.features import FeatureEncoder
from training.probes.fitting import drawn_rows
from training.probes.head_optimiser import HeadAdamW
from training.probes.heads import HeadStack
from training.probes.losses import anticipation, cross_entropy
from training.probes.results import write_evaluation, write_probe
from training.probes.samples import Sample
from training.probes.splits import Split, encoded
from training.run_folder import RunFolder

_HEADS = "heads.probe."


@dataclass(frozen=True)
class ProbeBatch(Batch):
    """Samples to learn from, as clips or as tokens.

    Attributes:
        samples: Clips `[1, S, 3, T, H, W]`, or tokens `[1, N, D]`, of each sample.
        ahead_s: How far the future lies that each is asked about [s]; None: nothing is anticipated.
        labels: Classes by question, int64 `[B, Q]`.
        are_tokens: Which of both the samples are.
    """

    samples: tuple[Tensor, ...]
    ahead_s: tuple[float | None, ...]
    labels: Tensor
    are_tokens: bool


class ProbeSource:
    """Makes groups of samples, epoch after epoch, each in an order of its own.

    Args:
        recipe: Says how many, and from which seed.
        split: The samples.
    """

    def __init__(self, recipe: ProbeConfig, split: Split) -> None:
        self._seed = recipe.seed
        self._batch_size = recipe.batch_size
        self._group_size = recipe.group_size
        self._versions = recipe.data.versions
        self._retries = recipe.data.max_retries
        self._split = split

    def __call__(self, step: int, group: int) -> ProbeBatch:
        """Make group `group` of the batch of update `step` (both from 0)."""
        first = step * self._batch_size + group * self._group_size
        total = len(self._split.samples)
        chosen = drawn_rows(total, first, self._group_size, self._seed).tolist()
        found, indices, skipped = [], [], list[str]()
        for number, sample in enumerate(chosen, start=first):
            epoch = number // total
            version = epoch if self._versions is None else epoch % self._versions
            index, content = self._split.read_or_replace((sample, version), self._retries, skipped)
            indices.append(index)
            found.append(content)
        samples = self._split.samples
        return ProbeBatch(
            names=tuple(samples.name(index) for index in indices),
            skipped=tuple(skipped),
            samples=tuple(one.clips if isinstance(one, Sample) else one for one in found),
            ahead_s=tuple(one.ahead_s if isinstance(one, Sample) else None for one in found),
            labels=torch.tensor([samples.labels(index) for index in indices]),
            are_tokens=isinstance(found[0], Tensor),
        )


class ProbeNetwork(nn.Module):
    """All heads with their losses; the frozen encoder stands beside them and is no part of the state.

    Args:
        heads: What is trained.
        encoder: For samples that come as clips.
    """

    def __init__(self, heads: HeadStack, encoder: FeatureEncoder) -> None:
        super().__init__()
        self.heads = heads
        self._encoder = encoder
        for parameter in heads.parameters():
            parameter.register_hook(_finite)  # type: ignore[no-untyped-call]

    def forward(self, batch: ProbeBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean loss of the heads, whose gradient is that of every head's own loss.

        A head whose loss is not finite does not learn from the batch, and does not disturb others.
        """
        answers = self.heads(self._tokens(batch))
        if len(answers) == 1:
            losses = cross_entropy(answers[0], batch.labels[:, 0])
        else:
            losses = anticipation(answers, batch.labels)
        is_finite = losses.isfinite()
        if not bool(is_finite.any()):
            return losses.sum(), {}  # the loop stops, and says at which samples
        kept = losses.masked_fill(~is_finite, 0.0)
        shown = (kept.sum() / is_finite.sum()).detach()
        loss = kept.sum() + (shown - kept.sum()).detach()
        return loss, {
            "best_loss": losses[is_finite].min().detach(),
            "lost_heads": (~is_finite).sum().float(),
        }

    def _tokens(self, batch: ProbeBatch) -> Tensor:
        """Return tokens `[B, N, D]`."""
        contents: list[Sample | Tensor] = [
            sample if batch.are_tokens else Sample(sample, ahead)
            for sample, ahead in zip(batch.samples, batch.ahead_s, strict=True)
        ]
        return torch.cat([encoded(content, self._encoder) for content in contents])


class Probing(Training[ProbeBatch]):
    """A grid of probes.

    Args:
        recipe: What to do.
        heads: The heads.
        names: What they are called.
        encoder: The frozen encoder.
        train: Samples to learn from.
        validation: Samples to be judged by.
        task: What is asked.
        world: The processes.
    """

    title: ClassVar[str] = "probing"
    score: ClassVar[str | None] = "error"
    network: ProbeNetwork

    def __init__(
        self,
        recipe: ProbeConfig,
        heads: HeadStack,
        names: Sequence[str],
        encoder: FeatureEncoder,
        train: Split,
        validation: Split,
        task: Task,
        world: World,
    ) -> None:
        self._recipe = recipe
        self._grid = recipe.all_heads()
        self._names = tuple(names)
        self._encoder = encoder
        self._validation = validation
        self._task = task
        self._world = world
        self._evaluation: Evaluation | None = None
        self.network = ProbeNetwork(heads, encoder)
        self.source = ProbeSource(recipe, train)

    def make_optimiser(self, config: OptimiserConfig) -> torch.optim.Optimizer:
        """Make one optimiser that updates every head with its own rate and decay."""
        count = self.network.heads.count
        return HeadAdamW(
            self.network.parameters(), torch.zeros(count), torch.zeros(count), config.betas
        )

    def set_schedule(
        self,
        optimiser: torch.optim.Optimizer,
        config: OptimiserConfig,  # noqa: ARG002  grids have schedules of their own
        update: int,
        steps: int,
    ) -> float:
        """Set every head's rate and decay; return the largest rate."""
        rates = [head.rate * head.rate_share.at(update, steps) for head in self._grid]
        decays = [head.decay * head.decay_share.at(update, steps) for head in self._grid]
        group = optimiser.param_groups[0]
        group["rates"], group["decays"] = torch.tensor(rates), torch.tensor(decays)
        return max(rates)

    def validate(self, step: int) -> dict[str, float]:  # noqa: ARG002
        """Judge all heads on the validation samples."""
        recipe = self._recipe
        self._evaluation = evaluate(
            self.network.heads,
            self._names,
            self._encoder,
            self._validation,
            self._task,
            self._world,
            batch_size=recipe.group_size,
            workers=recipe.run.workers,
            max_unreadable=recipe.data.max_unreadable,
        )
        found = self._evaluation
        return {
            "error": 1.0 - max(found.scores),
            "best_head": float(found.best),
            "unreadable": float(len(found.unreadable)),
            **found.metrics,
        }

    @torch.no_grad()
    def judge(self, folder: RunFolder) -> None:
        """Evaluate heads that were trained elsewhere; every process has to call it."""
        self.network.eval()
        self.validate(0)
        if self._world.is_main:
            recipe = self._recipe.model_dump(mode="json")
            self.write_model(full_state(self.network), folder.path, {"step": 0, "recipe": recipe})

    def warnings(self, row: Mapping[str, float]) -> list[str]:
        """Say when heads lost their way, or samples could not be read."""
        found = []
        if row.get("lost_heads"):
            found.append("heads with a loss that is not finite were left out; lower their rates")
        if row.get("unreadable"):
            found.append(f"{int(row['unreadable'])} validation samples cannot be read")
        return found

    def write_model(
        self, state: Mapping[str, Tensor], directory: Path, metadata: Mapping[str, Any]
    ) -> None:
        """Write the head that was best in the last validation, and what this found."""
        if self._evaluation is None:
            return
        best = self._evaluation.best
        weights = {
            name.removeprefix(_HEADS): value[best]
            for name, value in state.items()
            if name.startswith(_HEADS)
        }
        write_probe(directory, weights, self._describe(self._evaluation, metadata))
        write_evaluation(directory, self._evaluation, self._validation.samples)

    def _describe(self, evaluation: Evaluation, metadata: Mapping[str, Any]) -> dict[str, Any]:
        recipe, encoder = self._recipe, self._encoder
        width = encoder.network.config.embed_dim
        classes = {question: list(names) for question, names in self._task.classes.items()}
        return {
            "probe": {**recipe.probe.model_dump(mode="json"), "embed_dim": width},
            "outputs": {question: len(names) for question, names in classes.items()},
            "classes": classes["label"] if list(classes) == ["label"] else classes,
            "clips": recipe.clips.model_dump(mode="json"),
            "out_layers": encoder.out_layers,
            "side_px": recipe.clips.side_px(encoder.network.config),
            "img_size_px": encoder.network.config.img_size[0],
            "encoder": {"source": str(recipe.encoder_from), "sha256": encoder.sha256()},
            "metadata": {
                **metadata,
                "head": evaluation.heads[evaluation.best],
                "protocol": self._task.protocol,
                "metrics": dict(evaluation.metrics),
            },
        }


def _finite(gradient: Tensor) -> Tensor | None:
    """Replace the gradient `[H, ..]` of heads that lost their way by zero; None: there is none."""
    is_finite = gradient.flatten(1).sum(dim=1).isfinite()  # one pass, no copy
    if bool(is_finite.all()):
        return None
    return gradient.masked_fill(~is_finite.view(-1, *(1 for _ in gradient.shape[1:])), 0.0)
