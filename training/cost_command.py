"""`python -m training cost`: what recipes ask for, and how far the numbers can be trusted."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import torch
import yaml

from models.config import vit_giant_xformers
from training.cache_cost import cache_cost
from training.config import load_recipe
from training.cost import EXPECTED_MFU, PEAK_FLOPS, Cost, posttraining_cost
from training.cost_check import check_all, measure_speed
from training.cost_report import quantity
from training.errors import ConfigurationError
from training.plan import cost_of
from training.posttrain_config import PosttrainConfig
from training.pretrain_config import PretrainConfig

_RECIPES: Final = Path(__file__).parents[1] / "configs" / "training"
_HOUR_S: Final = 3600.0
_ROW_PERIODS_S: Final = (1.06, 0.265, 1 / 15)
_DROID_HOURS: Final = {"the 62 h of the paper": 62.0, "all 350 h": 350.0}
_MANY: Final = 10.0
_CARDS: Final = ("A100", "H100")


def add_cost_command(commands: Any) -> None:
    """Add `cost` to the command line."""
    text = "print what recipes cost: arithmetic, GPU hours, memory, storage"
    parser: ArgumentParser = commands.add_parser("cost", help=text, description=text)
    parser.add_argument(
        "recipes", nargs="*", type=Path, help="recipes (default: all in configs/training/)"
    )
    parser.add_argument(
        "--check", action="store_true", help="hold the model against small runs on this machine"
    )
    parser.set_defaults(start=_start)


def _start(options: Namespace) -> int:
    if options.check:
        _write(_checks())
        return 0
    paths = options.recipes or sorted(_RECIPES.glob("*.yaml"))
    _write(_recipes(paths))
    _write(["", *_memory()])
    _write(["", *_cache()])
    return 0


def recipe_costs(path: Path) -> dict[str, Cost]:
    """Return the costs of a recipe by name: a post-training with and without a cache.

    Recipes of other trainings (decoders) have none.

    Raises:
        ConfigurationError: It cannot be read.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} holds no recipe; see configs/training/")
    if "control_period_s" in content:
        recipe = load_recipe(path, PosttrainConfig)
        if recipe.encoder is None:
            return {path.stem: posttraining_cost(recipe, cached=True)}
        return {
            f"{path.stem}, live": posttraining_cost(recipe, cached=False),
            f"{path.stem}, cached": posttraining_cost(recipe, cached=True),
        }
    if "momentum" in content or "masks" in content or "predictor" in content:
        return {path.stem: cost_of(load_recipe(path, PretrainConfig))}
    return {}


def _recipes(paths: Sequence[Path]) -> Iterator[str]:
    hours = " | ".join(f"{card} h" for card in _CARDS)
    yield f"| recipe | parameters | updates | FLOP / update | FLOP | {hours} | checkpoint |"
    yield "|---|---|---|---|---|" + "---|" * len(_CARDS) + "---|"
    for path in paths:
        for name, cost in recipe_costs(path).items():
            cells = [
                name,
                quantity(cost.trained),
                f"{cost.updates:,}",
                quantity(cost.flops_per_update),
                quantity(cost.flops),
                *(_hours(cost.gpu_hours(card)) for card in _CARDS),
                f"{quantity(cost.checkpoint_bytes)}B",
            ]
            yield "| " + " | ".join(cell.strip() for cell in cells) + " |"
    peaks = ", ".join(f"{card} {PEAK_FLOPS[card] / 1e12:.0f} TFLOP/s" for card in _CARDS)
    yield ""
    yield f"Hours of one card at {EXPECTED_MFU:.0%} of its bfloat16 peak ({peaks})."


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= _MANY else f"{hours:.2g}"


def _memory() -> Iterator[str]:
    """Tell what fine-tuning the published predictor takes, one saving after the other."""
    yield "| fine-tuning the published predictor | state | per window | 4 windows in all |"
    yield "|---|---|---|---|"
    path = _RECIPES / "droid_finetune_24gb.yaml"
    savings = {
        "all weights, AdamW, activations kept": [
            "optimiser.kind=adamw",
            "run.checkpoint_activations=false",
        ],
        "activations recomputed": ["optimiser.kind=adamw"],
        "and 8-bit AdamW": [],
        "and LoRA of rank 16": ["lora.rank=16", "start_from=x"],
    }
    for name, changes in savings.items():
        cost = posttraining_cost(load_recipe(path, PosttrainConfig, changes), cached=True)
        whole = cost.state_bytes + 4 * cost.activation_bytes
        yield f"| {name} | {quantity(cost.state_bytes)}B | {quantity(cost.activation_bytes)}B | {quantity(whole)}B |"


def _cache() -> Iterator[str]:
    """Tell what a cache of DROID takes, one camera, with the published encoder."""
    encoder = vit_giant_xformers()
    yield "| DROID, one camera, ViT-g | a row every | frames | bfloat16 | float8 | H100 h to encode |"
    yield "|---|---|---|---|---|---|"
    for name, duration_h in _DROID_HOURS.items():
        for period_s in _ROW_PERIODS_S:
            cost = cache_cost(encoder, duration_h * _HOUR_S, period_s)
            hours = cost.flops / (PEAK_FLOPS["H100"] * EXPECTED_MFU) / _HOUR_S
            yield (
                f"| {name} | {period_s:.3g} s | {quantity(cost.frames).strip()} | "
                f"{quantity(cost.size_bytes)}B | {quantity(cost.size_bytes / 2)}B | {hours:.2g} |"
            )


def _checks() -> Iterator[str]:
    yield "| what | predicted | measured | ratio |"
    yield "|---|---|---|---|"
    for check in check_all():
        predicted, measured = (quantity(v) + check.unit for v in (check.predicted, check.measured))
        yield f"| {check.what} | {predicted} | {measured} | {check.ratio:.3f} |"
    speed = measure_speed()
    yield ""
    yield (
        f"This machine, {torch.get_num_threads()} threads: {quantity(speed.peak_flops)}FLOP/s in large "
        f"bfloat16 products, {quantity(speed.update_flops)}FLOP/s in post-training updates of a small "
        f"predictor: an MFU of {speed.mfu:.0%}."
    )


def _write(lines: Iterator[str] | Sequence[str]) -> None:
    for line in lines:
        sys.stdout.write(line + "\n")
