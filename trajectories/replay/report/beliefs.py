"""What the model believes beside what the robot did: errors, energies, directions and ranks as charts."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trajectories.replay.report.svg import Plot, number, span_of
from trajectories.replay.report.words import (
    POLICY_COLOURS,
    POLICY_NAMES,
    QUANTITIES,
    STEP_QUANTITIES,
    run_colour,
)
from trajectories.replay.results import PLAN, ReplayResult
from trajectories.replay.summary import OVERALL, policy_values, step_values

Array = NDArray[np.float64]

Spread = tuple[str, str, Array]
"""A planner's label and colour, and its numbers."""

_BINS = 10


def beliefs(results: Sequence[ReplayResult]) -> str:
    """Show ranks, directions and energies: what the model believes, beside what the robot did."""
    ranks = [_known(step_values(each.full_steps(), "rank_of_recorded")) for each in results]
    cosines = [
        _known(policy_values(each.full_steps(), PLAN, "direction_cosine")) for each in results
    ]
    # Planners of one model share its ranks; showing them once is enough.
    models = [
        (label, colour, 100 * values)
        for place, (label, colour, values) in enumerate(_spreads(results, ranks))
        if not any(np.array_equal(values, earlier) for earlier in ranks[:place])
    ]
    cards = [
        _card(
            "Error of the end point",
            "Means with 95 % intervals, clustered by episode. Left is better.",
            forest(results, "end_distance_xyz_m"),
        ),
        _card(
            "Energy of each policy's actions",
            "What the model predicts. It should be least for what the robot did.",
            forest(results, "energy") + _recorded_note(results),
        ),
        _card(
            "Direction of the plans",
            "Cosine to the recorded displacement. A good planner piles up at 1.",
            histogram(_spreads(results, cosines), (-1, 1), "cosine"),
        ),
        _card(
            "Rank of the recorded action",
            "Share of random actions with less energy. A good model piles up at 0.",
            histogram(models, (0, 100), "rank [%]")
            if any(len(each) for each in ranks)
            else _missing(results[0], "rank_of_recorded"),
        ),
    ]
    return f'<div class="columns">{"".join(cards)}</div>'


def forest(results: Sequence[ReplayResult], metric: str) -> str:
    """Draw one metric of all policies as means with whiskers."""
    quantity = QUANTITIES[metric]
    rows = [
        (result.planner.label, run_colour(index), result.summary[PLAN][metric])
        for index, result in enumerate(results)
    ]
    rows += [
        (POLICY_NAMES[policy], colour, results[0].summary[policy][metric])
        for policy, colour in POLICY_COLOURS.items()
    ]
    rows = [row for row in rows if row[2].mean is not None]
    if not rows:
        return '<p class="soft small">not known</p>'
    ends = [
        quantity.scale * value
        for _, _, each in rows
        for value in (each.mean, each.low, each.high)
        if value is not None
    ]
    span = span_of(ends, floor=0.0 if quantity.better == "lower" and metric != "energy" else None)
    names = [(-float(place), name) for place, (name, _, _) in enumerate(rows)]
    plot = Plot(
        width=420,
        height=44 + 26 * len(rows),
        x=span,
        y=(0.6 - len(rows), 0.6),
        x_label=f"{quantity.title.lower()}{f' [{quantity.unit}]' if quantity.unit else ''}",
        left=148,
        y_ticks=names,
    )
    for place, (name, colour, found) in enumerate(rows):
        mean = quantity.scale * float(found.mean or 0.0)
        if found.low is not None and found.high is not None:
            plot.segment(
                (quantity.scale * found.low, -place),
                (quantity.scale * found.high, -place),
                f"{colour} whisker",
            )
        plot.dot(
            (mean, -place),
            colour,
            4.5,
            f"{name}: {quantity.show(found.mean)} {quantity.unit} {quantity.interval(found)}",
        )
    return plot.render(f"{quantity.title} by policy")


def histogram(spreads: Sequence[Spread], span: tuple[float, float], label: str) -> str:
    """Draw how numbers are spread over steps, one colour per planner, and where chance would put them."""
    edges = np.linspace(*span, _BINS + 1)
    shares = [np.histogram(values, edges)[0] / max(1, len(values)) for _, _, values in spreads]
    top = max(0.2, max((float(share.max()) for share in shares), default=0.0))
    plot = Plot(420, 180, span, (0, 110 * top), label, "steps [%]", ticks=4)
    width = (edges[1] - edges[0]) / max(1, len(spreads))
    for index, ((name, colour, _), share) in enumerate(zip(spreads, shares, strict=True)):
        for place, part in enumerate(share):
            left = edges[place] + index * width
            plot.bar(
                (left + 0.06 * width, 0),
                (left + 0.94 * width, 100 * part),
                colour,
                f"{name}: {100 * part:.0f} % of steps between {number(edges[place])} and "
                f"{number(edges[place + 1])}",
            )
    plot.segment((span[0], 100 / _BINS), (span[1], 100 / _BINS), "chance")
    plot.text((span[1], 100 / _BINS + 2 * top), "chance", "note", "end")
    return plot.render(label)


def _spreads(results: Sequence[ReplayResult], values: Sequence[Array]) -> list[Spread]:
    return [
        (result.planner.label, run_colour(index), each)
        for index, (result, each) in enumerate(zip(results, values, strict=True))
    ]


def _recorded_note(results: Sequence[ReplayResult]) -> str:
    overall = results[0].summary[OVERALL]
    if overall["surprise"].mean is None:
        return _missing(results[0], "surprise")
    quantity = STEP_QUANTITIES["surprise"]
    ratio = float(overall["surprise"].mean) / max(
        1e-12, float(overall["surprise_of_copy"].mean or math.nan)
    )
    return (
        f'<p class="soft small">Surprise: for the recorded action the model misses the next frame by '
        f"{quantity.show(overall['surprise'].mean)}; predicting no change misses it by "
        f"{quantity.show(overall['surprise_of_copy'].mean)} ({ratio:.2f} of it; below 1 is better).</p>"
    )


def _missing(result: ReplayResult, metric: str) -> str:
    return f'<p class="soft small">Not known: {html.escape(result.missing.get(metric, "no step has it"))}.</p>'


def _card(title: str, note: str, body: str) -> str:
    return f'<div class="card"><h3>{title}</h3><p class="soft small">{note}</p>{body}</div>'


def _known(values: Array) -> Array:
    return np.asarray(values[~np.isnan(values)])
