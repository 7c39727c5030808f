"""The top of the page: the verdict in words, and the numbers beside their baselines."""

from __future__ import annotations

import html
from collections.abc import Sequence

from trajectories.replay import baselines
from trajectories.replay.report.words import (
    POLICY_COLOURS,
    POLICY_MEANINGS,
    POLICY_NAMES,
    QUANTITIES,
    STEP_QUANTITIES,
    UNKNOWN,
    count,
    run_colour,
)
from trajectories.replay.results import PLAN, ReplayResult, Summary
from trajectories.replay.statistics import FEW_EPISODES, PairedEstimate, compare
from trajectories.replay.summary import OVERALL, policy_values, quantiles

_DISTANCE = "end_distance_xyz_m"


def verdict(result: ReplayResult) -> str:
    """Say in words how the plans compare with holding still, and what the model thinks of the recorded motion."""
    full = result.full_steps()
    if not full:
        return '<div class="card verdict"><p>No episode is long enough for a whole plan: no means.</p></div>'
    found = compare(
        policy_values(full, baselines.DO_NOTHING, _DISTANCE),
        policy_values(full, PLAN, _DISTANCE),
        [step.episode for step in full],
    )
    state, sentence = _against_still(found)
    episodes = len({step.episode for step in full})
    caution = ""
    if episodes < FEW_EPISODES:
        caution = (
            f'<p class="soft small">{count(episodes, "episode").capitalize()} only: intervals are '
            f"{'not to be had' if episodes == 1 else 'rough and rather too narrow'}, and no p below "
            f"{found.smallest_p:.3g} is possible. Replay at least {FEW_EPISODES} before you decide.</p>"
        )
    return f'<div class="card verdict {state}"><p>{sentence} {_belief(result)}</p>{caution}</div>'


def _against_still(found: PairedEstimate) -> tuple[str, str]:
    mean, low, high = found.difference.mean, found.difference.low, found.difference.high
    size = f"{100 * abs(mean):.1f} cm"
    place = "nearer to where the robot went" if mean < 0 else "farther from where the robot went"
    if low is None or high is None:
        return (
            "",
            f"The plans end {size} {place} than holding still would; one episode tells no more.",
        )
    between = (
        f"95 % interval {_signed(100 * low)} to {_signed(100 * high)} cm, p = {found.p_value:.3f}"
    )
    if not found.is_sure:
        return (
            "",
            f"<b>Not to be told from holding still:</b> plans end {size} {place} ({between}).",
        )
    state, word = ("good", "Better") if mean < 0 else ("bad", "Worse")
    return state, f"<b>{word} than holding still:</b> plans end {size} {place} ({between})."


def _belief(result: ReplayResult) -> str:
    rank = result.summary[OVERALL]["rank_of_recorded"].mean
    if rank is None:
        return ""
    better = 100 * (1 - rank)
    return (
        f"The model gives the recorded motion less energy than {better:.0f} % of random ones "
        f"({'chance is 50 %' if better < 97 else 'it knows what the robot did'})."
    )


def tiles(result: ReplayResult) -> str:
    """Show the six numbers that people ask for first."""
    plan, overall = result.summary[PLAN], result.summary[OVERALL]
    median, p95, largest = quantiles(result.steps, "round_trip_ms")
    shown = [
        _tile("action_score", plan),
        _tile(_DISTANCE, plan),
        _tile("direction_cosine", plan),
        _tile("rank_of_recorded", overall),
        _tile("monotonicity", overall),
        _raw_tile(
            "Median plan time",
            f"{median:.0f} <small>ms</small>",
            f"p95 {p95:.0f}, max {largest:.0f}",
        ),
    ]
    return f'<div class="tiles">{"".join(shown)}</div>'


def _tile(metric: str, row: dict[str, Summary]) -> str:
    quantity = (QUANTITIES | STEP_QUANTITIES)[metric]
    unit = f" <small>{quantity.unit}</small>" if quantity.unit and quantity.unit != "cos" else ""
    value = quantity.show(row[metric].mean)
    return _raw_tile(
        quantity.title,
        value + (unit if value != UNKNOWN else ""),
        quantity.interval(row[metric]) or "no interval",
    )


def _raw_tile(title: str, value: str, note: str) -> str:
    return f'<div class="tile"><span>{html.escape(title)}</span><b>{value}</b><i>{html.escape(note)}</i></div>'


def table(results: Sequence[ReplayResult]) -> str:
    """Show every policy with every metric, the means above their intervals."""
    heads = "".join(
        f'<th title="{html.escape(quantity.meaning)}">{quantity.title}'
        f"{f' [{quantity.unit}]' if quantity.unit else ''}</th>"
        for quantity in QUANTITIES.values()
    )
    rows = [
        _row(_plan_name(results, index), run_colour(index), result.summary[PLAN], "plan", "")
        for index, result in enumerate(results)
    ]
    rows += [
        _row(POLICY_NAMES[policy], colour, results[0].summary[policy], "", POLICY_MEANINGS[policy])
        for policy, colour in POLICY_COLOURS.items()
    ]
    return (
        f'<div class="scroll"><table><tr><th>Policy</th>{heads}</tr>{"".join(rows)}</table></div>'
    )


def _row(name: str, colour: str, row: dict[str, Summary], css: str, meaning: str) -> str:
    cells = "".join(
        f"<td>{quantity.show(row[metric].mean)}{_small(quantity.interval(row[metric]))}</td>"
        for metric, quantity in QUANTITIES.items()
    )
    return (
        f'<tr class="{css}" title="{html.escape(meaning)}"><td><span class="swatch" style="background:var(--{colour})">'
        f"</span>{html.escape(name)}</td>{cells}</tr>"
    )


def _small(text: str) -> str:
    return f"<small>{text}</small>" if text else ""


def _plan_name(results: Sequence[ReplayResult], index: int) -> str:
    label = results[index].planner.label
    return f"Plan, {label}" if len(results) > 1 else f"Plan ({label})"


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "\u2212")
