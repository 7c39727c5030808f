"""The page about two results: who is better where, and how sure that is."""

from __future__ import annotations

import html
import math

from trajectories.replay.comparison import Comparison, Row
from trajectories.replay.report.page import page
from trajectories.replay.report.svg import Plot, span_of
from trajectories.replay.report.words import (
    ACTION_SCORE,
    KNOWN,
    QUANTITIES,
    UNKNOWN,
    Quantity,
    count,
)
from trajectories.replay.statistics import FEW_EPISODES

_HEADLINE = "end_distance_xyz_m"
_NOTES = (
    "Intervals resample whole episodes; p is the two-sided sign-flip test over episodes. Energies and surprise "
    "are distances between tokens: they compare two planners of one model, not two models."
)


def render_comparison(comparison: Comparison) -> str:
    """Return one HTML page; A is the first result, B the second."""
    first, second = comparison.first.label, comparison.second.label
    title = f"{second} against {first}"
    body = (
        f"<h1>{html.escape(title)}</h1>"
        f'<p class="lead">{count(comparison.steps, "common step")} of {count(comparison.episodes, "episode")}'
        f"{_left_out(comparison)}. Every difference is B − A at the same step.</p>"
        f"{_verdict(comparison)}"
        f'<div class="columns"><div class="card"><h3>A: {html.escape(first)}</h3>{_card(comparison, 0)}</div>'
        f'<div class="card"><h3>B: {html.escape(second)}</h3>{_card(comparison, 1)}</div></div>'
        f'<h2>Paired differences</h2><div class="card">{_table(comparison)}</div>'
        f'<h2>Episode by episode</h2><div class="card"><p class="soft small">Mean difference of the end distance. '
        f"Left of zero B is better.</p>{_by_episode(comparison)}</div>"
        f"<footer>{_NOTES}</footer>"
    )
    return page(title, body)


def _verdict(comparison: Comparison) -> str:
    row = next(each for each in comparison.rows if each.metric == _HEADLINE)
    mean = row.paired.difference.mean
    words = f"B's plans end {abs(100 * mean):.1f} cm {_nearer(mean)}"
    state, claim = "", "No difference can be told"
    if row.paired.is_sure:
        state, claim = ("good", "B is better") if mean < 0 else ("bad", "B is worse")
    interval = QUANTITIES[_HEADLINE].interval(row.paired.difference)
    between = f"95 % interval {interval} cm, p = {row.paired.p_value:.3f}"
    if not interval:
        between = "one episode, no interval"
    caution = ""
    if comparison.episodes < FEW_EPISODES:
        caution = (
            f'<p class="soft small">With {count(comparison.episodes, "episode")} no p below '
            f"{row.paired.smallest_p:.3g} is possible, and intervals are rather too narrow.</p>"
        )
    return f'<div class="card verdict {state}"><p><b>{claim}:</b> {words} ({between}).</p>{caution}</div>'


def _nearer(mean: float) -> str:
    return "nearer to where the robot went" if mean < 0 else "farther from where the robot went"


def _card(comparison: Comparison, place: int) -> str:
    card = (comparison.first, comparison.second)[place]
    rows = (
        ("action score", ACTION_SCORE.show(comparison.scores[place])),
        ("model", card.model),
        ("planner", card.planner),
        ("asked", card.via),
    )
    return (
        "<dl>"
        + "".join(f"<dt>{name}</dt><dd>{html.escape(value)}</dd>" for name, value in rows)
        + "</dl>"
    )


def _table(comparison: Comparison) -> str:
    rows = "".join(_row(row) for row in comparison.rows if math.isfinite(row.first))
    return (
        '<div class="scroll"><table><tr><th>Metric</th><th>A</th><th>B</th><th>B − A</th><th>p</th>'
        f"<th>B lower</th><th>better</th></tr>{rows}</table></div>"
    )


def _row(row: Row) -> str:
    quantity = KNOWN[row.metric]
    unit = f" [{quantity.unit}]" if quantity.unit else ""
    difference = row.paired.difference
    return (
        f'<tr title="{html.escape(quantity.meaning)}"><td>{quantity.title}{unit}</td>'
        f"<td>{quantity.show(row.first)}</td><td>{quantity.show(row.second)}</td>"
        f"<td>{_signed(quantity, difference.mean)}<small>{quantity.interval(difference) or '&nbsp;'}</small></td>"
        f"<td>{row.paired.p_value:.3f}</td><td>{100 * row.paired.share_b_lower:.0f} %</td><td>{_better(row)}</td></tr>"
    )


def _better(row: Row) -> str:
    """Name the better one where there surely is one."""
    if not row.paired.is_sure:
        return UNKNOWN
    is_b_lower = row.paired.difference.mean < 0
    return "B" if is_b_lower == (KNOWN[row.metric].better == "lower") else "A"


def _by_episode(comparison: Comparison) -> str:
    rows = sorted(comparison.differences, key=lambda each: each[1])
    values = [100 * value for _, value in rows]
    span = span_of([*values, 0.0])
    names = [(-float(place), _short(name)) for place, (name, _) in enumerate(rows)]
    plot = Plot(
        900,
        44 + 20 * len(rows),
        span,
        (0.7 - len(rows), 0.7),
        "B − A, end distance [cm]",
        left=210,
        y_ticks=names,
        ticks=8,
    )
    plot.segment((0.0, plot.y[0]), (0.0, plot.y[1]), "chance")
    for place, ((name, _), value) in enumerate(zip(rows, values, strict=True)):
        plot.segment((0.0, -place), (value, -place), "run0 whisker")
        plot.dot((value, -place), "run0", 4, f"{name}: {value:+.1f} cm")
    return plot.render("difference of the end distance by episode")


def _left_out(comparison: Comparison) -> str:
    if not comparison.left_out:
        return ""
    return f", {count(comparison.left_out, 'step')} that only one of them has left out"


def _signed(quantity: Quantity, value: float) -> str:
    shown = quantity.show(value)
    is_positive = bool(shown.strip("0.")) and shown[0] not in f"\u2212{UNKNOWN}"
    return f"+{shown}" if is_positive else shown


def _short(name: str) -> str:
    short = name.rsplit("/", 1)[-1]
    return short if len(short) <= 30 else f"\u2026{short[-29:]}"
