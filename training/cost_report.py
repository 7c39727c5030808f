"""Costs in words: what a dry run prints, and the tables of docs/training.md."""

from __future__ import annotations

from training.cost import EXPECTED_MFU, PEAK_FLOPS, Cost

_UNITS = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")
_STEP = 1000.0


def describe(cost: Cost) -> str:
    """Describe what a training asks for, a few lines of text."""
    hours = ", ".join(f"{cost.gpu_hours(card):,.4g} on {card}" for card in PEAK_FLOPS)
    return "\n".join(
        [
            f"parameters        {quantity(cost.trained)} trained, {quantity(cost.held)} held besides",
            (
                f"arithmetic        {quantity(cost.flops_per_update)}FLOP per update, "
                f"{quantity(cost.flops)}FLOP in {cost.updates:,} updates"
            ),
            f"hours of one GPU  {hours} (at {EXPECTED_MFU:.0%} of the bfloat16 peak)",
            (
                f"memory            {quantity(cost.state_bytes)}B for weights, copies, gradients, optimiser "
                f"over all processes, and {quantity(cost.activation_bytes)}B per sample in flight"
            ),
            f"checkpoint        {quantity(cost.checkpoint_bytes)}B",
        ]
    )


def quantity(value: float) -> str:
    """Write a number with three digits and a decimal prefix, ending in a space."""
    exponent = 0
    while value >= _STEP and exponent < len(_UNITS) - 1:
        value /= _STEP
        exponent += 1
    return f"{value:.3g} {_UNITS[exponent]}"
