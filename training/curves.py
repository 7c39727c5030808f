"""Curves as SVG, small and without a plotting library, so that a report costs nothing to refresh."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

_WIDTH, _HEIGHT = 420, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 10, 26, 24
_POINTS = 400  # drawn at most
_SMOOTHED = 60  # points beyond which a running mean is drawn over the values


def draw_curve(name: str, steps: Sequence[float], values: Sequence[float]) -> str:
    """Draw one quantity over updates.

    Args:
        name: Title.
        steps: Updates, rising.
        values: One for each; what is no number is left out.

    Returns:
        An `<svg>` element.
    """
    points = [(x, y) for x, y in zip(steps, values, strict=True) if math.isfinite(y)]
    if not points:
        return ""
    last = f"{points[-1][1]:.5g}"
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(name)}">',
        f'<text x="{_LEFT}" y="16" class="title">{html.escape(name)}: {last}</text>',
        *_axes(points),
    ]
    is_long = len(points) > _SMOOTHED
    parts.append(_line(points, points, "value pale" if is_long else "value"))
    if is_long:
        parts.append(_line(_smooth(points), points, "value"))
    return "".join([*parts, "</svg>"])


def _axes(points: Sequence[tuple[float, float]]) -> list[str]:
    (x_low, x_high), (y_low, y_high) = _limits(points)
    bottom = _HEIGHT - _BOTTOM
    frame = (
        f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{_WIDTH - _RIGHT}"/>'
        f'<text x="{_LEFT}" y="{_HEIGHT - 7}">{x_low:,.0f}</text>'
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 7}" class="end">{x_high:,.0f}</text>'
    )
    marks = [(y_low, bottom), ((y_low + y_high) / 2, (_TOP + bottom) / 2), (y_high, _TOP)]
    labels = [
        f'<text x="{_LEFT - 6}" y="{place + 4:.0f}" class="end">{value:.4g}</text>'
        for value, place in marks
    ]
    return [frame, *labels]


def _line(
    points: Sequence[tuple[float, float]], scale: Sequence[tuple[float, float]], kind: str
) -> str:
    (x_low, x_high), (y_low, y_high) = _limits(scale)
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    thinned = points[:: max(1, len(points) // _POINTS)]
    if thinned[-1] != points[-1]:
        thinned = [*thinned, points[-1]]
    places = " ".join(
        f"{_LEFT + width * (x - x_low) / (x_high - x_low):.1f},"
        f"{_TOP + height * (y_high - y) / (y_high - y_low):.1f}"
        for x, y in thinned
    )
    return f'<polyline class="{kind}" points="{places}"/>'


def _limits(
    points: Sequence[tuple[float, float]],
) -> tuple[tuple[float, float], tuple[float, float]]:
    xs, ys = zip(*points, strict=True)
    x_low, x_high, y_low, y_high = min(xs), max(xs), min(ys), max(ys)
    margin = (y_high - y_low) / 2 or abs(y_high) / 2 or 1.0
    if y_low == y_high:
        y_low, y_high = y_low - margin, y_high + margin
    return (x_low, x_high if x_high > x_low else x_low + 1), (y_low, y_high)


def _smooth(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Average every value with those before it, over a thirtieth of the curve."""
    width = max(1, len(points) // 30)
    total, smoothed = 0.0, []
    for number, (x, y) in enumerate(points):
        total += y - (points[number - width][1] if number >= width else 0.0)
        smoothed.append((x, total / min(number + 1, width)))
    return smoothed
