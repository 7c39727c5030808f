"""The report card as one page that needs no network."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import numpy as np

from training.diagnostics.card import ReportCard
from training.diagnostics.landscape import Landscape
from training.diagnostics.sections import Section, sections
from training.diagnostics.surprise import MODEL, Curve
from trajectories.replay.contact_sheet import thumbnail
from trajectories.replay.report.page import page
from trajectories.replay.report.svg import Plot, jpeg_uri, span_of

_COLOURS = ("run0", "recorded", "still", "oracle")
_FILM = 6  # frames of a spliced run that are shown


def render_card(card: ReportCard) -> str:
    """Return the page of a report card."""
    charts: Mapping[str, Callable[[ReportCard], str]] = {
        "readouts": _readout_chart,
        "future": _future_chart,
        "surprise": lambda one: "" if one.curve is None else _curve_chart(one.curve),
        "landscape": lambda one: "" if one.landscape is None else _landscape_chart(one.landscape),
    }
    parts = [
        f"<h1>Report card: {html.escape(card.name)}</h1>",
        f'<p class="lead">{html.escape(_lead(card))}</p>',
    ]
    for section in sections(card):
        chart = charts[section.key](card) if section.key in charts else ""
        parts.append(_card(section, chart))
    for name, reason in card.missing.items():
        parts.append(
            f'<p class="soft">{html.escape(name)}: not measured, {html.escape(reason)}.</p>'
        )
    return page(f"Report card: {card.name}", "".join(parts))


def _lead(card: ReportCard) -> str:
    return (
        f"{card.source} on {card.origin}, {card.period_s:g} s from row to row; {card.learned} runs to "
        f"learn from, {card.judged} to judge by."
    )


def _card(section: Section, chart: str) -> str:
    head = "".join(f"<th>{html.escape(name)}</th>" for name in section.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
        for row in section.rows
    )
    return (
        f"<h2>{html.escape(section.title)}</h2>"
        f'<p class="soft small">{html.escape(section.note)}</p>'
        f'<div class="card">{chart}<div class="scroll"><table><tr>{head}</tr>{rows}</table></div></div>'
    )


def _readout_chart(card: ReportCard) -> str:
    """Draw errors with whiskers, the smallest is the best."""
    names = [f"{each.eye}, {each.regressor}" for each in card.readouts]
    errors = [each.error_m for each in card.readouts]
    plot = Plot(
        width=720,
        height=44 + 26 * len(names),
        x=span_of([100 * (each.high or each.mean) for each in errors], floor=0.0),
        y=(0.6 - len(names), 0.6),
        x_label="error of the position [cm]",
        left=180,
        y_ticks=[(-float(place), name) for place, name in enumerate(names)],
    )
    for place, error in enumerate(errors):
        if error.low is not None and error.high is not None:
            plot.segment((100 * error.low, -place), (100 * error.high, -place), "run0 whisker")
        plot.dot(
            (100 * error.mean, -place), "run0", 4.5, f"{names[place]}: {100 * error.mean:.2f} cm"
        )
    return plot.render("error of the position by tokens and regressor")


def _future_chart(card: ReportCard) -> str:
    """Draw the error by horizon beside copying."""
    series = {
        "model": [each.error for each in card.future],
        "copy of the last frame": [each.copied for each in card.future],
        "other actions": [each.other_actions for each in card.future],
    }
    steps = [each.steps for each in card.future]
    highest = [one.high or one.mean for found in series.values() for one in found]
    plot = Plot(
        width=720,
        height=240,
        x=(0.8, steps[-1] + 0.2),
        y=span_of(highest, floor=0.0),
        x_label="control periods ahead",
        y_label="mean absolute error",
        ticks=len(steps),
    )
    for colour, (name, found) in zip(_COLOURS, series.items(), strict=False):
        plot.line([(step, one.mean) for step, one in zip(steps, found, strict=True)], colour)
        for step, one in zip(steps, found, strict=True):
            if one.low is not None and one.high is not None:
                plot.segment((step, one.low), (step, one.high), f"{colour} whisker")
            plot.dot((step, one.mean), colour, 3.5, f"{name}, {step}: {one.mean:.4f}")
    return _legend(list(series)) + plot.render("error by horizon")


def _curve_chart(curve: Curve) -> str:
    """Draw the surprise along one spliced run, over the frames that were shown."""
    names = [name if name == MODEL else f"change of {name}" for name in curve.scores]
    length = len(curve.frames)
    plot = Plot(
        width=720,
        height=230,
        x=(0, length - 1),
        y=span_of((value for each in curve.scores.values() for value in each), floor=0.0),
        x_label=f"row; at {curve.splice.row + 1} the camera shows another moment of the run",
        y_label="surprise (1: mean)",
    )
    odd = float(curve.splice.row + 1)
    plot.segment((odd, plot.y[0]), (odd, plot.y[1]), "chance")
    for colour, (name, scores) in zip(_COLOURS, curve.scores.items(), strict=False):
        points = [(row + 1.0, float(value)) for row, value in enumerate(scores)]
        plot.line(points, colour)
        for point in points:
            plot.dot(point, colour, 2.5, f"{name}, row {point[0]:.0f}: {point[1]:.2f}")
    first = int(np.clip(curve.splice.row - _FILM // 2 + 1, 0, max(0, length - _FILM)))
    shown = range(first, min(length, first + _FILM))
    film = "".join(_frame(curve, row, is_odd=row == curve.splice.row + 1) for row in shown)
    return (
        f'<div class="sheet" style="grid-template-columns:repeat({_FILM},minmax(0,1fr))">{film}</div>'
        f"{_legend(names)}{plot.render('surprise along a spliced run')}"
    )


def _frame(curve: Curve, row: int, *, is_odd: bool) -> str:
    caption = f"row {row}" + (" (spliced)" if is_odd else "")
    ring = "outline:3px solid var(--bad);" if is_odd else ""
    picture = jpeg_uri(thumbnail(row, curve.frames[row].numpy()).jpeg)
    return (
        f'<figure><img alt="{caption}" style="width:100%;{ring}" src="{picture}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _landscape_chart(found: Landscape) -> str:
    """Draw the mean energy by distance."""
    centimetres = 100 * found.distances_m
    plot = Plot(
        width=720,
        height=240,
        x=(0.0, float(centimetres[-1])),
        y=span_of([float(v) for each in found.curves.values() for v in each], floor=0.0),
        x_label="distance of the flange from the goal [cm]",
        y_label="energy (1: farthest)",
    )
    for colour, (name, values) in zip(_COLOURS, found.curves.items(), strict=False):
        points = [(0.0, 0.0), *zip(centimetres.tolist(), values.tolist(), strict=True)]
        plot.line(points, colour)
        for _, point in pairwise(points):
            plot.dot(point, colour, 3, f"{name}, {point[0]:.0f} cm: {point[1]:.2f}")
    return _legend(list(found.curves)) + plot.render("energy by distance")


def _legend(names: Sequence[str]) -> str:
    entries = "".join(
        f'<span><i class="swatch" style="background:var(--{colour})"></i>{html.escape(name)}</span>'
        for colour, name in zip(_COLOURS, names, strict=False)
    )
    return f'<div class="legend">{entries}</div>'
