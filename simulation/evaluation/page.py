"""The evaluation as one page that needs no network: tables, energies, films, imagined futures."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simulation.evaluation.conditions import CONDITION_LABELS, CONDITION_MEANINGS
from simulation.evaluation.failures import FAILURE_MEANINGS
from simulation.evaluation.jobs import Kind, Record
from simulation.evaluation.methods import Method
from simulation.evaluation.replays import Replay, film, replay
from simulation.evaluation.results import Results
from simulation.evaluation.summary import Row
from simulation.evaluation.tables import grids
from trajectories.replay.report.page import page
from trajectories.replay.report.svg import Plot, span_of

Frame = NDArray[np.uint8]

_SUCCESSES, _FAILURES = 1, 2  # films per kind of episode
_MOST_FILMS = 40


def render(
    results: Results, records: Sequence[Record], main: Method, imagined: Sequence[tuple[str, str]]
) -> str:
    """Return the page.

    Args:
        results: What was found.
        records: The episodes.
        main: The method that the page is about.
        imagined: Captions and data URIs of pictures of imagined futures.
    """
    tables = "".join(
        f'<div class="card"><h3>{html.escape(grid.title)}</h3>{grid.html()}</div>'
        for grid in grids(results)
    )
    body = (
        f"<h1>Closed loop: {html.escape(main.label)}</h1>{_lead(results)}{tables}"
        f"<h2>Energy along the way</h2>{_energies(results)}"
        f"{_imagined(imagined)}"
        f"<h2>Episodes</h2>{_films(chosen(records, main.name), main)}"
        f"<h2>How this was measured</h2>{_appendix(results)}"
    )
    return page("Closed loop", body)


def chosen(records: Sequence[Record], method: str) -> list[Record]:
    """Choose the episodes to show: of every kind and condition the first failures and a success."""
    groups: dict[tuple[Kind, str, bool], list[Record]] = {}
    for record in records:
        if record.job.method == method:
            is_success = record.result.verdict.is_success
            key = (record.job.kind, record.job.condition, is_success)
            groups.setdefault(key, []).append(record)
    picked = []
    for (_, condition, is_success), group in groups.items():
        most = _SUCCESSES if is_success else _FAILURES
        # Successes look alike everywhere; one in unseen workcells is enough.
        picked += group[: 0 if is_success and condition != "seeds" else most]
    return sorted(picked[:_MOST_FILMS], key=lambda record: record.result.verdict.is_success)


def data_uri(data: bytes, kind: str) -> str:
    """Return a file as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _lead(results: Results) -> str:
    what = results.origins[results.main]["description"]
    model = ", ".join(f"{name} {what[name]}" for name in ("model", "planner") if name in what)
    episodes = sum(
        row.success.total
        for row in results.rows
        if row.kind.object_kind is not None or row.kind.task == "reach"
    )
    return (
        f'<p class="lead">{html.escape(model or results.main)}; {episodes} episodes in the offline '
        "FR3 workcell. The policy was shown camera frames, measured states and goal images; the "
        "verdicts are read from the physics.</p>"
    )


def _energies(results: Results) -> str:
    kinds = [Kind("reach", "near"), Kind("reach", "far"), Kind("grasp"), Kind("pick_and_place")]
    rows = [results.row(results.main, "seeds", kind) for kind in kinds]
    charts = "".join(_energy_chart(row) for row in rows if row is not None)
    return (
        '<div class="card"><div class="legend"><span><i class="swatch" style="background:var(--oracle)">'
        '</i>successes</span><span><i class="swatch" style="background:var(--run0)"></i>failures</span>'
        "</div><p class='soft small'>Median energy of the camera frame to the goal image that counts "
        "at that step, in unseen workcells; it jumps where the next sub-goal begins.</p>"
        f'<div class="multiples">{charts}</div></div>'
    )


def _energy_chart(row: Row) -> str:
    values = [value for curve in row.energies.values() for value in curve]
    if not values:
        return ""
    longest = max(len(curve) for curve in row.energies.values())
    plot = Plot(320, 170, (0.5, longest + 0.5), span_of(values, floor=0.0), "plan", "energy")
    for name, css in (("success", "oracle"), ("failure", "run0")):
        curve = [(float(step), value) for step, value in enumerate(row.energies[name], 1)]
        plot.line(curve, css)
        for point in curve:
            plot.dot(point, css, 2.2, f"{name}, plan {point[0]:.0f}: {point[1]:.3f}")
    return f"<div><h3>{row.kind}</h3>{plot.render(f'energy by plan, {row.kind}')}</div>"


def _imagined(pictures: Sequence[tuple[str, str]]) -> str:
    if not pictures:
        return ""
    figures = "".join(
        f'<p><b>{html.escape(caption)}</b></p><div class="scroll"><img src="{uri}" '
        f'alt="camera and imagined frames, {html.escape(caption)}"></div>'
        for caption, uri in pictures
    )
    return (
        "<h2>Imagined futures</h2><div class='card'><p class='soft small'>Above: the camera after every "
        "action. Middle: what the model expected one step earlier. Below: what it expects of all "
        "actions from the first frame alone, as far as it can look ahead. Drawn by the decoder, "
        f"which planning never uses.</p>{figures}</div>"
    )


def _films(records: Sequence[Record], main: Method) -> str:
    cards = "".join(_film(record, replay(record, main)) for record in records)
    return (
        '<p class="soft">Left the camera, right the goal image that counts; one picture per control '
        "period. Failures first.</p>"
        f'<div class="columns">{cards}</div>'
    )


def _film(record: Record, episode: Replay) -> str:
    job, result = record.job, record.result
    words = result.failure or "success"
    condition = CONDITION_LABELS[job.condition]
    note = "" if episode.is_faithful else " (replayed with another outcome: the simulator changed)"
    return (
        f'<div class="card verdict {"bad" if result.failure else "good"}"><h3>{job.kind}: {words}</h3>'
        f'<p class="soft small">{html.escape(result.verdict.reason)}{note} · {condition}, seed {job.seed}, '
        f"{len(result.steps)} steps</p>"
        f'<img loading="lazy" width="516" style="max-width:100%" alt="{job.kind}, {words}" '
        f'src="{data_uri(film(episode), "image/webp")}">'
        f"{_film_energies(record)}</div>"
    )


def _film_energies(record: Record) -> str:
    points = [
        (float(number), step.numbers.get("energy_now", math.nan))
        for number, step in enumerate(record.result.steps, 1)
    ]
    known = [value for _, value in points if math.isfinite(value)]
    if not known:
        return ""
    plot = Plot(516, 110, (0.5, len(points) + 0.5), span_of(known, floor=0.0), "", "energy")
    for goal_index in sorted({step.goal_index for step in record.result.steps}):
        part = [
            point
            for point, step in zip(points, record.result.steps, strict=True)
            if step.goal_index == goal_index
        ]
        plot.line(part, f"run{goal_index}")
        for point in part:
            plot.dot(point, f"run{goal_index}", 2.2)
    return plot.render("energy by plan, one colour per sub-goal")


def _appendix(results: Results) -> str:
    about = [(name.replace("_", " "), str(value)) for name, value in results.about.items()]
    about += [
        (origin["label"], ", ".join([origin["policy"], f"schedule {origin['schedule']}"]))
        for origin in results.origins.values()
    ]
    what = results.origins[results.main]["description"]
    about += [(name.replace("_", " "), str(value)) for name, value in what.items()]
    meanings = [(CONDITION_LABELS[name], text) for name, text in CONDITION_MEANINGS.items()]
    meanings += list(FAILURE_MEANINGS.items())
    return (
        f'<div class="card">{_definitions(about)}</div><details><summary>What the words mean</summary>'
        f'<div class="card">{_definitions(meanings)}</div></details>'
    )


def _definitions(entries: Sequence[tuple[str, str]]) -> str:
    rows = "".join(
        f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in entries
    )
    return f"<dl>{rows}</dl>"
