"""Low-rank adaptation (arXiv 2106.09685) of a predictor by peft, and how it is merged at the end."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from models.ac_predictor import ACPredictor
from models.errors import MissingDependencyError
from models.timm_encoder import import_timm
from training.posttrain_config import LoRAConfig

_BASE = ".base_layer."
_DOWN, _UP = "lora_A.default.weight", "lora_B.default.weight"
_ALWAYS_TRAINED = ("action_encoder.", "state_encoder.")


def add_lora(predictor: ACPredictor, config: LoRAConfig) -> None:
    """Give the linear layers of the blocks low-rank changes, and close the rest to training.

    The layers that take in actions and states stay open: they are small, and a new robot moves
    otherwise.

    Raises:
        MissingDependencyError: peft is not installed.
    """
    import_timm()  # peft brings torchvision, which stumbles over a torch of another build without this
    try:
        from peft import LoraConfig as PeftLoraConfig
        from peft import inject_adapter_in_model
    except ImportError as error:
        raise MissingDependencyError(
            f"the recipe's `lora` needs peft ({error}); pip install 'vjepa-planner[finetune]', or "
            "leave it out"
        ) from error
    inject_adapter_in_model(
        PeftLoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            target_modules=list(config.targets),
        ),
        predictor,
    )
    for name, parameter in predictor.named_parameters():
        if name.startswith(_ALWAYS_TRAINED):
            parameter.requires_grad = True


def merge_lora(state: Mapping[str, Tensor], config: LoRAConfig | None) -> dict[str, Tensor]:
    """Return the weights of a plain predictor that computes the same: W + alpha / rank * B A."""
    if config is None:
        return dict(state)
    merged = {}
    for name, value in state.items():
        layer, base, kind = name.partition(_BASE)
        if ".lora_" in name:
            continue
        if not base:
            merged[name] = value
        elif kind == "weight":
            change = state[f"{layer}.{_UP}"].float() @ state[f"{layer}.{_DOWN}"].float()
            merged[f"{layer}.{kind}"] = value + config.alpha / config.rank * change
        else:
            merged[f"{layer}.{kind}"] = value
    return merged
