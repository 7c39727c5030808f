"""Energy landscapes of the report: the coarse cube and the fine slices, with the true action marked."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trajectories.replay.contact_sheet import PICTURED_EPISODES
from trajectories.replay.report.svg import Plot, png_uri
from trajectories.replay.results import Landscape, ReplayResult, Slice

_ANCHORS = (
    "440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725",
)  # fmt: skip
_AXES = "xyz"


def landscape_section(result: ReplayResult, landscape: Landscape, *, is_open: bool) -> str:
    """Show one step's landscape; the coarse cube is folded unless `is_open`."""
    every = [
        energy
        for each in (*landscape.cube, *landscape.fine)
        for row in each.energies
        for energy in row
    ]
    low, high = min(every), max(every)
    away_cm = 100 * float(np.linalg.norm(np.subtract(landscape.lowest_m, landscape.recorded_m)))
    time_s = next(
        step.time_s
        for step in result.steps
        if step.episode == landscape.episode and step.step == landscape.step
    )
    cube = "".join(_slice(each, landscape, low, high, 190, marks=False) for each in landscape.cube)
    fine = "".join(_slice(each, landscape, low, high, 330, marks=True) for each in landscape.fine)
    return (
        f'<div class="card"><h3>{html.escape(landscape.episode)}, {time_s:.1f} s</h3>'
        f'<p class="soft small">The lowest energy on the grids lies <b>{away_cm:.1f} cm</b> from the recorded action: '
        f"{landscape.energy_lowest:.4f} there, {landscape.energy_recorded:.4f} at the recorded action. "
        "Dark is low.</p>"
        f'<div class="legend"><span>✕ recorded</span><span>○ planned</span><span>+ holding still</span>'
        f"<span>◇ lowest of the slice</span><span>the first three as seen through the slice</span></div>"
        f'<div class="slices three">{fine}</div>'
        f"<details{' open' if is_open else ''}><summary>5 × 5 × 5 over the whole box</summary>"
        f'<div class="slices">{cube}</div></details></div>'
    )


def _slice(
    each: Slice, landscape: Landscape, low: float, high: float, size: float, *, marks: bool
) -> str:
    across, up = 100 * np.array(each.across_m), 100 * np.array(each.up_m)
    pads = (across[1] - across[0]) / 2, (up[1] - up[0]) / 2
    plot = Plot(
        size,
        size,
        (across[0] - pads[0], across[-1] + pads[0]),
        (up[0] - pads[1], up[-1] + pads[1]),
        f"{each.axes[0]} [cm]",
        f"{each.axes[1]} [cm]",
        ticks=4 if marks else 3,
        left=44,
    )
    plot.picture(png_uri(_colours(np.array(each.energies)[::-1], low, high)))
    if marks:
        places = [_AXES.index(axis) for axis in each.axes]
        for shape, where, title in (
            ("plus", (0.0, 0.0, 0.0), "holding still"),
            ("diamond", _lowest(each), "lowest of the slice"),
            ("ring", landscape.planned_m, "planned"),
            ("cross", landscape.recorded_m, "recorded"),
        ):
            point = 100 * where[places[0]], 100 * where[places[1]]
            plot.mark(point, shape, "halo")
            plot.mark(point, shape, "white", title)
    caption = f"{each.fixed_axis} = {100 * each.fixed_m:.1f} cm".replace("-", "\u2212")
    picture = plot.render(f"energy over {each.axes[0]} and {each.axes[1]} at {caption}")
    return f'<div><p class="soft small">{caption}</p>{picture}</div>'


def _lowest(each: Slice) -> tuple[float, ...]:
    """Return the translation `[3]` [m] of the lowest energy in a slice."""
    energies = np.array(each.energies)
    row, column = np.unravel_index(int(energies.argmin()), energies.shape)
    point = [each.fixed_m] * 3
    point[_AXES.index(each.axes[0])] = each.across_m[column]
    point[_AXES.index(each.axes[1])] = each.up_m[row]
    return tuple(point)


def _colours(energies: NDArray[np.float64], low: float, high: float) -> NDArray[np.uint8]:
    """Return RGB `[H, W, 3]`: dark for low, light for high, in even perceived steps."""
    anchors = np.array([[int(name[i : i + 2], 16) for i in (0, 2, 4)] for name in _ANCHORS])
    position = (energies - low) / max(high - low, 1e-12) * (len(anchors) - 1)
    known = np.arange(len(anchors))
    channels = [np.interp(position, known, anchors[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def landscapes(results: Sequence[ReplayResult]) -> str:
    """Show all landscapes of the first planner: they belong to the model, not to the search."""
    if not results[0].landscapes:
        return ""
    shown = "".join(
        landscape_section(results[0], each, is_open=place == 0)
        for place, each in enumerate(results[0].landscapes[:PICTURED_EPISODES])
    )
    return (
        "<h2>Energy landscapes</h2>"
        '<p class="soft">The goal energy when only the first translation changes; rotation, gripper and later steps '
        "are as recorded. A model that can be planned with has its lowest point at the recorded action.</p>"
        f"{shown}"
    )
