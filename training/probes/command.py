"""`python -m training probe`: from a recipe to judged probes, or to their plan."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from models.layers import Block
from training.commands import Command
from training.distributed import World
from training.errors import ConfigurationError
from training.loop import Outcome, Training, train
from training.probes.config import (
    ActionsConfig,
    AnnotationsConfig,
    AttentiveProbe,
    LinearProbe,
    NeighbourProbe,
    ProbeConfig,
)
from training.probes.evaluation import Task
from training.probes.features import FeatureEncoder, load_features
from training.probes.heads import HeadStack, draw_heads
from training.probes.motion import MotionConfig
from training.probes.neighbour_probing import judge_neighbours
from training.probes.probing import ProbeBatch, Probing
from training.probes.results import promote, write_evaluation
from training.probes.samples import FilesConfig
from training.probes.splits import Split, keep_features
from training.probes.tasks import OpenTask, open_task
from training.probes.trained import open_trained
from training.report import write_report
from training.run_folder import RunFolder

_EPILOGUE = """
A probe says what a frozen encoder knows: it reads the encoder's tokens and learns to name what a video
shows, while the encoder stays as it is. Many probes, one for each learning rate and weight decay, are
trained at the same time, and the best one counts.

images in one folder per class, the shipped encoder, nearest neighbours (nothing is learned):
  python -m training probe --config configs/probes/knn.yaml --encoder models/shipped \\
                           --data train=photos/train --data validation=photos/val --output runs/knn
videos in lists ("path label" in every line):
  python -m training probe --config configs/probes/videos.yaml --encoder runs/encoder \\
                           --data train=train.csv --data validation=val.csv --output runs/probe
encode every clip once, into a folder that later runs with the same encoder and clips read:
  ... --set data.cache_path=runs/features --set data.draws=2
a published evaluation, on 8 GPUs; on a SLURM cluster (run.slurm in the recipe); what it would cost:
  torchrun --nproc-per-node 8 -m training probe --config configs/probes/ssv2_vitl.yaml --output ...
  python -m training probe --config configs/probes/ssv2_vitl.yaml --output ... --slurm
  python -m training probe --config configs/probes/ssv2_vitl.yaml --dry-run

Start the same command again to continue an interrupted run. The run folder then has
  report.html       curves, accuracy with its interval, confusion matrix, example clips
  evaluation.json   the same in numbers, for every head;  predictions.csv: for every sample
  config.json, model.safetensors    the best probe
"""


def _add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--encoder", help="frozen encoder, instead of the recipe's encoder_from")
    parser.add_argument("--probe-from", help="trained probes to evaluate (with --set steps=0)")


def _changes(options: Namespace) -> list[str]:
    changes = []
    for text in options.data:
        name, equals, path = text.partition("=")
        if not equals or name not in ("train", "validation", "videos"):
            raise ConfigurationError(
                f"--data {text}: write train=PATH, validation=PATH, or videos=PATH"
            )
        changes.append(
            f"data.videos_path={path}" if name == "videos" else f"data.{name}.path={path}"
        )
    given = {"encoder_from": options.encoder, "probe_from": options.probe_from}
    return changes + [f"{key}={value}" for key, value in given.items() if value is not None]


class NeighbourProbing(Training[ProbeBatch]):
    """Nearest neighbours, in the place of a training: there is nothing to update."""

    title = "neighbours"

    def __init__(
        self,
        recipe: ProbeConfig,
        probe: NeighbourProbe,
        encoder: FeatureEncoder,
        splits: tuple[Split, Split],
        task: Task,
        world: World,
    ) -> None:
        self.network = nn.Identity()
        self._recipe = recipe
        self._probe = probe
        self._encoder = encoder
        self._splits = splits
        self._task = task
        self._world = world

    def judge(self, folder: RunFolder) -> None:
        """Let the training samples vote; every process has to call it."""
        found = judge_neighbours(
            self._recipe, self._probe, self._encoder, *self._splits, self._task, self._world
        )
        if self._world.is_main:
            write_evaluation(folder.path, found, self._splits[1].samples)

    def write_model(
        self, state: Mapping[str, Tensor], directory: Path, metadata: Mapping[str, Any]
    ) -> None:
        """Write nothing: the training samples are the model."""


def build_probing(
    recipe: ProbeConfig,
    options: Namespace,  # noqa: ARG001
    world: World,
) -> Probing | NeighbourProbing:
    """Load the encoder, find the samples, encode them where they are to be kept, draw the heads.

    Raises:
        ConfigurationError: Something is not named, or does not belong together.
        DataError: The samples cannot be used.
        LatentsMismatchError: The cache was made from something else.
        ModelError: Weights are missing, damaged or of another kind.
    """
    if recipe.encoder_from is None:
        raise ConfigurationError("no encoder: give --encoder, a model folder or a published file")
    is_anticipation = isinstance(recipe.data, ActionsConfig)
    encoder = load_features(
        recipe.encoder_from,
        world.device,
        recipe.run.precision,
        recipe.out_layers,
        predictor=(recipe.predictor or True) if is_anticipation else False,
        fps=recipe.clips.fps or 8.0,
    )
    if recipe.run.compile:
        for module in encoder.network.modules():
            if isinstance(module, Block):
                module.compile(dynamic=True)
    opened = open_task(recipe, encoder.network.config)
    splits = _open_splits(recipe, opened, encoder, world)
    if isinstance(recipe.probe, NeighbourProbe):
        return NeighbourProbing(recipe, recipe.probe, encoder, splits, opened.task, world)
    heads, names = _make_heads(recipe, recipe.probe, encoder, opened.task)
    return Probing(recipe, heads, names, encoder, *splits, opened.task, world)


def run_probing(
    training: Training[Any], recipe: ProbeConfig, folder: RunFolder, world: World
) -> Outcome:
    """Train and judge probes; leave what the best one found in the run folder."""
    if isinstance(training, NeighbourProbing | Probing) and not recipe.steps:
        training.network.to(world.device)
        training.judge(folder)
        outcome = Outcome(0, is_finished=True)
    else:
        outcome = train(training, recipe, folder, world)
    if outcome.is_finished and world.is_main:
        promote(folder.best, folder.path)
        write_report(folder.path)
    world.barrier()
    return outcome


def _open_splits(
    recipe: ProbeConfig, opened: OpenTask, encoder: FeatureEncoder, world: World
) -> tuple[Split, Split]:
    data = recipe.data
    seed = None if data.augmentation is None else recipe.seed
    splits = Split(opened.train, seed), Split(opened.validation)
    if data.cache_path is None:
        return splits
    folder, workers = data.cache_path, recipe.run.workers
    return (
        keep_features(splits[0], encoder, folder / "train", data.versions or 1, world, workers),
        keep_features(splits[1], encoder, folder / "validation", 1, world, workers),
    )


def _make_heads(
    recipe: ProbeConfig, probe: AttentiveProbe | LinearProbe, encoder: FeatureEncoder, task: Task
) -> tuple[HeadStack, list[str]]:
    """Draw the heads of the grid, or load heads that were trained before; and name them."""
    width = encoder.network.config.embed_dim
    names = [f"head {number}: {head.name}" for number, head in enumerate(recipe.all_heads())]
    states: list[Mapping[str, Tensor]] = []
    if recipe.probe_from is not None:
        trained = open_trained(recipe.probe_from, probe, width, task)
        states = list(trained.states)
        if not recipe.steps:
            names = [f"head {number}" for number in range(len(states))]
        elif len(states) == 1:
            states *= len(names)
    pooler = probe.network(width) if isinstance(probe, AttentiveProbe) else None
    heads = draw_heads(pooler, width, task.outputs, len(names), recipe.seed)
    if states:
        heads.load_heads(states, str(recipe.probe_from))
    return heads, names


def describe_probing(recipe: ProbeConfig) -> str:
    """Describe what a recipe asks for."""
    data, clips = recipe.data, recipe.clips
    grid = recipe.all_heads()
    rate = f"{clips.fps:g} fps" if clips.fps else f"every {clips.frame_step or 1} frames"
    kept = "encoded anew every time" if data.cache_path is None else f"kept in {data.cache_path}"
    lines = [
        f"{data.task} with {len(grid) or 'no'} heads of kind {recipe.probe.kind}",
        f"encoder           {recipe.encoder_from or '(no --encoder)'}, {recipe.run.precision}, frozen",
        (
            f"clips             {clips.frames} frames, {rate}, {clips.segments} segments, "
            f"{clips.views} views in validation; tokens {kept}"
        ),
        f"train             {_place(data.train)}",
        f"validation        {_place(data.validation)}",
        f"updates           {recipe.steps:,} of {recipe.batch_size:,} samples",
    ]
    lines += [f"head {number:<12} {head.name}" for number, head in enumerate(grid)]
    if isinstance(data, ActionsConfig):
        lines.append(f"protocol          {data.protocol}")
    return "\n".join(lines)


def _place(config: FilesConfig | MotionConfig | AnnotationsConfig) -> str:
    if isinstance(config, MotionConfig):
        return f"{config.samples:,} generated clips of {len(config.classes)} motions"
    return config.path or "(no path)"


PROBE = Command(
    name="probe",
    help="measure what a frozen encoder knows, with probes on its tokens",
    recipe=ProbeConfig,
    build=build_probing,
    plan=describe_probing,
    add_arguments=_add_arguments,
    changes=_changes,
    carry_out=run_probing,
    epilogue=_EPILOGUE,
)
