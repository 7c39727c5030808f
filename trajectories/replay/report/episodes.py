"""One episode of the report: what the camera saw, the energy along time, planned and recorded motion per axis."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trajectories.poses import POSITION, ROTATION, compose
from trajectories.replay.contact_sheet import Thumbnail
from trajectories.replay.report.svg import Plot, Range, arrow, jpeg_uri, span_of
from trajectories.replay.report.words import DEGREES, QUANTITIES, STEP_QUANTITIES, count, run_colour
from trajectories.replay.results import PLAN, EpisodeResult, ReplayResult, Row, StepResult

Array = NDArray[np.float64]

_AXES = (
    ("x", "cm", 100.0),
    ("y", "cm", 100.0),
    ("z", "cm", 100.0),
    ("roll", "°", DEGREES),
    ("pitch", "°", DEGREES),
    ("yaw", "°", DEGREES),
    ("gripper closedness", "", 1.0),
)
_SHOWN_AXES = (0, 1, 2, 6, 3, 4, 5)
_ROTATIONS = (3, 4, 5)
_COMPASS_PX = 30.0


def episode_section(
    results: Sequence[ReplayResult], name: str, sheet: Sequence[Thumbnail], *, is_open: bool
) -> str:
    """Show one episode, folded unless `is_open`; planners lie over one another."""
    first = next(each for each in results[0].episodes if each.name == name)
    runs = [[step for step in result.steps if step.episode == name] for result in results]
    error = np.mean([step.policies[PLAN].distance_m for step in runs[0]])
    note = f"{count(len(runs[0]), 'step')}, position error {100 * error:.1f} cm"
    title = first.task or _short(name)
    return (
        f'<details class="card episode"{" open" if is_open else ""}><summary><b>{html.escape(title)}</b>'
        f"<small>{note}</small></summary><div>{_facts(first)}"
        f"{_sheet(runs, sheet)}{_legend(results)}"
        f'<div class="multiples"><div class="wide">{_energies(runs)}</div>'
        f"{''.join(_axis(runs, axis) for axis in _SHOWN_AXES)}</div></div></details>"
    )


def _facts(episode: EpisodeResult) -> str:
    outcome = {True: "success", False: "failure", None: "outcome not recorded"}[episode.is_success]
    monotonicity = STEP_QUANTITIES["monotonicity"].show(episode.monotonicity)
    parts = [
        f"<code>{html.escape(episode.name)}</code>",
        f"{episode.duration_s:.1f} s, {episode.view} camera, {outcome}",
        f"monotonicity {monotonicity}" if episode.monotonicity is not None else "",
        "times follow from a nominal rate" if episode.clock == "nominal" else "",
        *(html.escape(warning) for warning in episode.warnings),
    ]
    return f'<p class="soft small">{" · ".join(part for part in parts if part)}</p>'


def _legend(results: Sequence[ReplayResult]) -> str:
    entries = [("recorded", "what the robot did")]
    entries += [
        (run_colour(index), f"planned ({result.planner.label})")
        for index, result in enumerate(results)
    ]
    entries.append(("still", "hold still"))
    return (
        '<div class="legend">'
        + "".join(
            f'<span><i class="swatch" style="background:var(--{colour})"></i>{html.escape(text)}</span>'
            for colour, text in entries
        )
        + "</div>"
    )


# --- contact sheet --------------------------------------------------------------------------------


def _sheet(runs: Sequence[Sequence[StepResult]], sheet: Sequence[Thumbnail]) -> str:
    if not sheet:
        return ""
    longest_m = max(
        (
            float(np.linalg.norm(_net(rows)[POSITION]))
            for run in runs
            for step in run
            for rows in (step.recorded, step.planned)
        ),
        default=0.0,
    )
    scale = (_COMPASS_PX - 4) / max(longest_m, 0.02)
    pictures = [_picture(runs, each, scale) for each in sheet]
    return (
        f'<div class="sheet">{"".join(pictures)}</div>'
        '<p class="soft small">Compass on each picture: the motion seen from above, forward (robot x) is up and robot '
        "y is left; the bar beside it is up and down (z).</p>"
    )


def _picture(runs: Sequence[Sequence[StepResult]], picture: Thumbnail, scale: float) -> str:
    steps = [step for run in runs for step in run if step.step == picture.step]
    if len(steps) < len(runs):  # nothing was asked there: it is the last frame
        return f"<figure>{_frame(picture, '', 'the last frame')}<figcaption>the end</figcaption></figure>"
    motions = [("recorded", _net(steps[0].recorded))]
    motions += [(run_colour(index), _net(step.planned)) for index, step in enumerate(steps)]
    error = QUANTITIES["distance_m"].show(steps[0].policies[PLAN].distance_m)
    time = f"{steps[0].time_s:.1f} s"
    return (
        f"<figure>{_frame(picture, _compass(motions, picture, scale), f'frame at {time}')}"
        f"<figcaption>{time} · off by {error} cm</figcaption></figure>"
    )


def _frame(picture: Thumbnail, drawn: str, label: str) -> str:
    return (
        f'<svg viewBox="0 0 {picture.width_px} {picture.height_px}" role="img" aria-label="{label}">'
        f'<image href="{jpeg_uri(picture.jpeg)}" width="{picture.width_px}" height="{picture.height_px}" '
        f'preserveAspectRatio="none"/>{drawn}</svg>'
    )


def _compass(motions: Sequence[tuple[str, Array]], picture: Thumbnail, scale: float) -> str:
    x, y = _COMPASS_PX + 5, picture.height_px - _COMPASS_PX - 5
    bar = 2 * _COMPASS_PX + 15
    parts = [
        f'<circle class="disc" cx="{x}" cy="{y}" r="{_COMPASS_PX}"/>',
        (
            f'<rect class="disc" x="{bar - 6}" y="{y - _COMPASS_PX}" width="{6 + 8 * len(motions)}" '
            f'height="{2 * _COMPASS_PX}" rx="5"/>'
        ),
        f'<line class="axis-line" x1="{x - _COMPASS_PX}" x2="{x + _COMPASS_PX}" y1="{y}" y2="{y}"/>',
        f'<line class="axis-line" x1="{x}" x2="{x}" y1="{y - _COMPASS_PX}" y2="{y + _COMPASS_PX}"/>',
        f'<line class="axis-line" x1="{bar - 6}" x2="{bar + 8 * len(motions)}" y1="{y}" y2="{y}"/>',
    ]
    for place, (colour, motion) in enumerate(motions):
        forward, left, up = scale * motion[POSITION]
        parts.append(arrow((x, y), (x - left, y - forward), colour, 6))
        across = bar + 8 * place
        parts.append(arrow((across, y), (across, y - up), colour, 5))
    return "".join(parts)


# --- plots ----------------------------------------------------------------------------------------


def _energies(runs: Sequence[Sequence[StepResult]]) -> str:
    steps = runs[0]
    still = [step.policies["do_nothing"].energy for step in steps]
    lines: list[tuple[str, list[float | None]]] = [
        ("still dashed", still),
        ("recorded", [step.energy_recorded for step in steps]),
    ]
    lines += [
        (run_colour(index), [step.policies[PLAN].energy for step in run])
        for index, run in enumerate(runs)
    ]
    far = [step.energy_to_end for step in steps]
    known = [value for _, values in lines for value in values] + far
    plot = Plot(
        980,
        220,
        _times(steps),
        span_of(known),
        "time [s]",
        "energy",
        ticks=8,
    )
    plot.line(_points(steps, far), "faint thin")
    _end_label(plot, steps, far, "frame to the episode's end")
    for css, values in lines:
        plot.line(_points(steps, values), css)
        for step, value in zip(steps, values, strict=True):
            if value is not None and "dashed" not in css:
                plot.dot((step.time_s, value), css, 2.6, f"{step.time_s:.1f} s: {value:.4f}")
    return f"<h3>Energy along the episode</h3>{plot.render('energy along time')}"


def _end_label(
    plot: Plot, steps: Sequence[StepResult], values: Sequence[float | None], text: str
) -> None:
    if values and values[0] is not None:
        x, y = steps[0].time_s, values[0]
        plot.text(
            (x + 0.01 * (plot.x[1] - plot.x[0]), y + 0.03 * (plot.y[1] - plot.y[0])),
            text,
            "note faint-text",
        )


def _axis(runs: Sequence[Sequence[StepResult]], axis: int) -> str:
    name, unit, scale = _AXES[axis]
    steps = runs[0]
    states = np.array([step.state[axis] for step in steps])
    if axis in _ROTATIONS:
        states = np.unwrap(states)
    recorded = scale * states
    ends = [
        (
            run_colour(index),
            recorded + scale * _moved([(step, step.planned) for step in run])[:, axis],
        )
        for index, run in enumerate(runs)
    ]
    after = recorded + scale * _moved([(step, step.recorded[:1]) for step in steps])[:, axis]
    width_s = _step_s(steps)
    values = [*recorded, *after, *(value for _, each in ends for value in each)]
    plot = Plot(
        320,
        150,
        _times(steps),
        _at_least(span_of(values), scale),
        "",
        "",
        left=40,
        bottom=20,
        ticks=4,
    )
    # To the next recorded row, also where not every step was asked about.
    pieces = zip(steps, recorded, after, strict=True)
    plot.line(
        [
            point
            for step, start, end in pieces
            for point in ((step.time_s, float(start)), (step.time_s + width_s, float(end)))
        ],
        "recorded",
    )
    for colour, each in ends:
        for step, start, end in zip(steps, recorded, each, strict=True):
            reach_s = step.time_s + width_s * len(step.planned)
            title = f"{step.time_s:.1f} s: planned {end - start:+.2f} {unit}"
            plot.segment(
                (step.time_s, float(start)), (reach_s, float(end)), f"{colour} plan-step", title
            )
            plot.dot((reach_s, float(end)), colour, 2, title)
    return f"<div><h3>{name}{f' [{unit}]' if unit else ''}</h3>{plot.render(f'{name} along time')}</div>"


def _moved(steps: Sequence[tuple[StepResult, Sequence[Row]]]) -> Array:
    """Return what actions change of the pose they start from, `[S, 7]`; Euler angles by the shorter way."""
    changes = []
    for step, actions in steps:
        start = pose = np.array(step.state)
        for action in actions:
            pose = compose(pose, np.array(action))
        changes.append(pose - start)
    moved = np.array(changes)
    moved[:, ROTATION] = (moved[:, ROTATION] + np.pi) % (2 * np.pi) - np.pi
    return moved


def _at_least(span: Range, scale: float) -> Range:
    """Widen a span to a centimetre or so: noise of a resting axis should look like rest."""
    least = 0.02 * scale
    missing = max(0.0, least - (span[1] - span[0])) / 2
    return span[0] - missing, span[1] + missing


def _times(steps: Sequence[StepResult]) -> Range:
    end = steps[-1].time_s + _step_s(steps) * max(1, len(steps[-1].planned))
    return steps[0].time_s, max(end, steps[0].time_s + 1e-3)


def _step_s(steps: Sequence[StepResult]) -> float:
    """Return the recorded time of one control step."""
    if len(steps) < 2:
        return 1.0
    return (steps[-1].time_s - steps[0].time_s) / (steps[-1].step - steps[0].step)


def _points(
    steps: Sequence[StepResult], values: Sequence[float | None]
) -> list[tuple[float, float]]:
    return [
        (step.time_s, math.nan if value is None else value)
        for step, value in zip(steps, values, strict=True)
    ]


def _net(rows: Sequence[Sequence[float]]) -> Array:
    return np.asarray(np.sum(rows, axis=0), dtype=np.float64)


def _short(name: str) -> str:
    return name.rsplit("/", 1)[-1]
