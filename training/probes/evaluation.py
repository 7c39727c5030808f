"""How well every head of a grid answers, and which one is best.

Letters in shapes: M samples, H heads of the grid, B samples at a time, V views, Q questions,
K classes of a question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from rich.progress import track
from torch import Tensor

from training.distributed import World
from training.probes.features import FeatureEncoder
from training.probes.heads import HeadStack
from training.probes.metrics import hits, mean_over_classes, only, wilson_interval
from training.probes.splits import Split, Unread, check_unreadable, encoded, load_entries


@dataclass(frozen=True)
class Task:
    """What is asked.

    Attributes:
        classes: Names of the classes of every question; the last question is the one that counts.
        protocol: Under which rules, for tables.
        by_class: Every class counts as much, in recall at 5 (anticipation); otherwise every sample
            does, in top 1.
    """

    classes: Mapping[str, tuple[str, ...]]
    protocol: str
    by_class: bool = False

    @property
    def outputs(self) -> tuple[int, ...]:
        """How many classes every question has."""
        return tuple(len(names) for names in self.classes.values())

    @property
    def score_name(self) -> str:
        """What heads are compared by."""
        return "action recall@5" if self.by_class else "top1"


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        task: What was asked.
        heads: Names of the heads.
        scores: Of the heads, by what `task.score_name` says, 0 to 1.
        metrics: Of the best head.
        interval: 95 % interval of the best head's top 1.
        names: Of the samples that could be read.
        labels: Their classes, of the question that counts.
        predicted: The best head's answers.
        confidence: Its probability for them.
        places: Numbers of those samples in the split.
        unreadable: Samples that could not be read, each with the reason.
    """

    task: Task
    heads: tuple[str, ...]
    scores: tuple[float, ...]
    metrics: Mapping[str, float]
    interval: tuple[float, float]
    names: tuple[str, ...]
    labels: Tensor
    predicted: Tensor
    confidence: Tensor
    places: tuple[int, ...]
    unreadable: tuple[str, ...]

    @property
    def best(self) -> int:
        """Which head is best; of several, the first."""
        return self.scores.index(max(self.scores))


class Tally:
    """Collects answers of all heads, in any order and from several processes.

    Args:
        split: The samples.
        task: What they are asked.
        heads: Names of the heads.
    """

    def __init__(self, split: Split, task: Task, heads: Sequence[str]) -> None:
        samples = split.samples
        self._split = split
        self._task = task
        self._heads = tuple(heads)
        self._labels = torch.tensor([samples.labels(index) for index in range(len(samples))])
        self._asked = [torch.unique(column).tolist() for column in self._labels.T]
        shape = (len(samples), len(heads))
        questions = len(task.classes)
        # Beside the hits of every question: prediction and confidence of the last.
        self._found = torch.zeros(*shape, 2 * questions + 2, dtype=torch.float64)
        self._seen = torch.zeros(len(samples), dtype=torch.float64)
        self._unreadable: list[str] = []

    def add(self, places: Sequence[int], scores: Sequence[Tensor]) -> None:
        """Note the heads' probabilities `[H, B, K]` of every question, for samples `[B]`."""
        columns = []
        for question, given in enumerate(scores):
            labels = self._labels[list(places), question].to(given.device)
            # What no sample is about cannot be answered; so is the data set measured.
            answer = only(given, self._asked[question]) if self._task.by_class else given
            columns += [hits(answer, labels, 1), hits(answer, labels, 5)]
        confidence, predicted = answer.max(dim=-1)
        columns += [predicted, confidence]
        rows = torch.stack([column.double() for column in columns], dim=-1)  # [H, B, 2 Q + 2]
        self._found[list(places)] = rows.transpose(0, 1).cpu()
        self._seen[list(places)] = 1

    def add_unreadable(self, place: int, reason: str) -> None:
        """Note a sample that could not be read."""
        self._unreadable.append(f"{place:012d} {reason}")

    def result(self, world: World, max_unreadable: float) -> Evaluation:
        """Bring all processes' answers together; every process has to call it.

        Raises:
            DataError: Too many samples could not be read.
        """
        everything = torch.cat([self._found.flatten(1), self._seen.unsqueeze(1)], dim=1)
        if world.size > 1:
            everything = world.mean(everything.to(world.device)).cpu() * world.size
        unreadable = sorted(text for part in world.gather(self._unreadable) for text in part)
        names = [text.partition(" ")[2] for text in unreadable]
        check_unreadable(names, len(self._seen), max_unreadable)
        places = everything[:, -1].round().nonzero().squeeze(1)
        found = torch.unflatten(everything[places, :-1], 1, self._found.shape[1:])
        return self._summarise(places, found, tuple(names))

    def _summarise(self, places: Tensor, found: Tensor, unreadable: tuple[str, ...]) -> Evaluation:
        task, labels = self._task, self._labels[places]
        counts = found[:, :, :-2].round()
        top1, top5 = counts[:, :, -2], counts[:, :, -1]
        scores = mean_over_classes(top5, labels[:, -1]) if task.by_class else top1.mean(dim=0)
        best = int(scores.argmax())
        metrics: dict[str, float] = {}
        for question, name in enumerate(task.classes):
            prefix = f"{name} " if len(task.classes) > 1 else ""
            first, five = counts[:, best, 2 * question], counts[:, best, 2 * question + 1]
            asked = labels[:, question]
            metrics[f"{prefix}top1"] = float(first.mean())
            metrics[f"{prefix}top5"] = float(five.mean())
            metrics[f"{prefix}class mean top1"] = float(mean_over_classes(first, asked))
            metrics[f"{prefix}class mean recall@5"] = float(mean_over_classes(five, asked))
        correct = int(top1[:, best].sum())
        samples = self._split.samples
        return Evaluation(
            task=task,
            heads=self._heads,
            scores=tuple(scores.tolist()),
            metrics=metrics,
            interval=wilson_interval(correct, len(places)),
            names=tuple(samples.name(place) for place in places.tolist()),
            labels=labels[:, -1],
            predicted=found[:, best, -2].round().long(),
            confidence=found[:, best, -1],
            places=tuple(places.tolist()),
            unreadable=unreadable,
        )


@torch.no_grad()
def evaluate(
    heads: HeadStack,
    names: Sequence[str],
    encoder: FeatureEncoder,
    split: Split,
    task: Task,
    world: World,
    *,
    batch_size: int,
    workers: int = 0,
    max_unreadable: float = 0.0,
) -> Evaluation:
    """Ask every head about every sample of a split; every process has to call it.

    Views are judged one by one, and their probabilities averaged.

    Args:
        heads: The heads.
        names: What they are called.
        encoder: The frozen encoder.
        split: The samples.
        task: What they are asked.
        world: The processes; each takes its share of the samples.
        batch_size: Samples that pass through the heads together.
        workers: Loading processes of every process.
        max_unreadable: Share of the samples that may be unreadable.

    Raises:
        DataError: More samples cannot be read.
    """
    tally = Tally(split, task, names)
    mine = [(index, 0) for index in range(world.rank, len(split.samples), world.size)]
    waiting: list[tuple[int, Tensor]] = []
    found = load_entries(split, mine, workers)
    for (place, _), content in track(
        found, "evaluating", total=len(mine), disable=not world.is_main, transient=True
    ):
        if isinstance(content, Unread):
            tally.add_unreadable(place, content.reason)
            continue
        waiting.append((place, encoded(content, encoder)))
        if len(waiting) == batch_size:
            _answer(heads, encoder, task, waiting, tally, world)
    if waiting:
        _answer(heads, encoder, task, waiting, tally, world)
    return tally.result(world, max_unreadable)


def _answer(
    heads: HeadStack,
    encoder: FeatureEncoder,
    task: Task,
    waiting: list[tuple[int, Tensor]],
    tally: Tally,
    world: World,
) -> None:
    """Let the heads answer for the samples that wait, and forget these."""
    tokens = torch.stack([one for _, one in waiting]).to(world.device)  # [B, V, N, D]
    lowered = encoder.precision == "bf16"
    with torch.autocast(world.device.type, torch.bfloat16, enabled=lowered):
        answers = heads(tokens.flatten(0, 1))
    scores = []
    for logits in answers:
        each = logits.float().sigmoid() if task.by_class else logits.float().softmax(dim=-1)
        scores.append(torch.unflatten(each, 1, tokens.shape[:2]).mean(dim=2))
    tally.add([place for place, _ in waiting], scores)
    waiting.clear()
