"""Small charts as SVG text: axes with round ticks, lines, dots, bars, arrows and pictures.

Colours are CSS classes of `page.html`, so a chart follows the page from light to dark. Every mark may carry a title,
which browsers show under the pointer.
"""

from __future__ import annotations

import base64
import html
import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]
Range = tuple[float, float]

_TICKS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass
class Plot:
    """One pair of axes.

    Attributes:
        width, height: Of the whole chart [px].
        x, y: What the axes span.
        x_label, y_label: Quantity and unit.
        left, bottom, top, right: Margins [px].
        y_ticks: Named places on the y axis instead of numbers.
        ticks: About how many numbers an axis has.
    """

    width: float
    height: float
    x: Range
    y: Range
    x_label: str = ""
    y_label: str = ""
    left: float = 46
    bottom: float = 34
    top: float = 8
    right: float = 10
    y_ticks: Sequence[tuple[float, str]] | None = None
    ticks: int = 5
    _marks: list[str] = field(default_factory=list)

    def at(self, point: Point) -> Point:
        """Return where a point of the data lies on the chart [px]."""
        across = (point[0] - self.x[0]) / (self.x[1] - self.x[0])
        up = (point[1] - self.y[0]) / (self.y[1] - self.y[0])
        return (
            self.left + across * (self.width - self.left - self.right),
            self.height - self.bottom - up * (self.height - self.bottom - self.top),
        )

    def line(self, points: Iterable[Point], css: str) -> None:
        """Draw a line through points; a gap where a number is missing."""
        for run in _runs(points):
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(self.at, run))
            self._marks.append(f'<polyline class="{css}" points="{path}"/>')

    def segment(self, start: Point, end: Point, css: str, title: str = "") -> None:
        """Draw a straight piece."""
        (x1, y1), (x2, y2) = self.at(start), self.at(end)
        self._marks.append(
            f'<line class="{css}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}">{_title(title)}</line>'
        )

    def dot(self, point: Point, css: str, radius: float = 3, title: str = "") -> None:
        """Draw a filled dot."""
        x, y = self.at(point)
        self._marks.append(
            f'<circle class="{css}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}">{_title(title)}</circle>'
        )

    def bar(self, low: Point, high: Point, css: str, title: str = "") -> None:
        """Fill the rectangle between two corners."""
        (x1, y1), (x2, y2) = self.at(low), self.at(high)
        self._marks.append(
            f'<rect class="{css}" x="{min(x1, x2):.1f}" y="{min(y1, y2):.1f}" width="{abs(x2 - x1):.1f}" '
            f'height="{abs(y2 - y1):.1f}" rx="1.5">{_title(title)}</rect>'
        )

    def mark(self, point: Point, shape: str, css: str, title: str = "") -> None:
        """Draw a symbol of `SHAPES` at a point."""
        x, y = self.at(point)
        self._marks.append(
            f'<path class="{css}" transform="translate({x:.1f} {y:.1f})" d="{SHAPES[shape]}">{_title(title)}</path>'
        )

    def text(self, point: Point, text: str, css: str = "note", anchor: str = "start") -> None:
        """Write beside a point."""
        x, y = self.at(point)
        self._marks.append(
            f'<text class="{css}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'
        )

    def picture(self, uri: str) -> None:
        """Fill the axes with a picture."""
        (x1, y1), (x2, y2) = self.at((self.x[0], self.y[1])), self.at((self.x[1], self.y[0]))
        self._marks.append(
            f'<image href="{uri}" x="{x1:.1f}" y="{y1:.1f}" width="{x2 - x1:.1f}" height="{y2 - y1:.1f}" '
            'preserveAspectRatio="none" class="pixels"/>'
        )

    def render(self, label: str) -> str:
        """Return the chart; `label` says what it shows to those who cannot see it."""
        return (
            f'<svg class="chart" viewBox="0 0 {self.width:g} {self.height:g}" role="img" '
            f'aria-label="{html.escape(label)}">{self._axes()}{"".join(self._marks)}</svg>'
        )

    def _axes(self) -> str:
        parts = []
        floor, ceiling = self.at((self.x[0], self.y[0])), self.at((self.x[1], self.y[1]))
        for value in ticks(self.x, self.ticks):
            x, _ = self.at((value, self.y[0]))
            parts.append(
                f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{floor[1]:.1f}" y2="{ceiling[1]:.1f}"/>'
                f'<text class="tick" x="{x:.1f}" y="{floor[1] + 13:.1f}" text-anchor="middle">{number(value)}</text>'
            )
        named = self.y_ticks or [(value, number(value)) for value in ticks(self.y, self.ticks)]
        for value, name in named:
            _, y = self.at((self.x[0], value))
            parts.append(
                f'<line class="grid" x1="{floor[0]:.1f}" x2="{ceiling[0]:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
                f'<text class="tick" x="{floor[0] - 6:.1f}" y="{y + 3.5:.1f}" text-anchor="end">'
                f"{html.escape(name)}</text>"
            )
        if self.x_label:
            middle = (floor[0] + ceiling[0]) / 2
            parts.append(
                f'<text class="axis" x="{middle:.1f}" y="{self.height - 4:.1f}" text-anchor="middle">'
                f"{html.escape(self.x_label)}</text>"
            )
        if self.y_label:
            parts.append(
                f'<text class="axis" transform="translate(11 {(floor[1] + ceiling[1]) / 2:.1f}) rotate(-90)" '
                f'text-anchor="middle">{html.escape(self.y_label)}</text>'
            )
        return "".join(parts)


SHAPES = {
    "cross": "M-5-5L5 5M5-5L-5 5",
    "ring": "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0",
    "plus": "M-5 0H5M0-5V5",
    "diamond": "M0-5.5L5.5 0L0 5.5L-5.5 0Z",
}


def ticks(span: Range, count: int = 5) -> list[float]:
    """Return about `count` round numbers inside a span."""
    width = span[1] - span[0]
    raw = width / max(1, count)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in _TICKS if power * factor >= raw * 0.999)
    first = math.ceil(span[0] / step - 1e-9)
    last = math.floor(span[1] / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def span_of(values: Iterable[float | None], pad: float = 0.06, floor: float | None = None) -> Range:
    """Return the range of the values with some room around; `floor` is where it begins at the latest."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    if floor is not None:
        known.append(floor)
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    room = pad * (high - low) or max(abs(high) * pad, 1e-6)
    return (low if low == floor else low - room), high + room


def number(value: float) -> str:
    """Write a tick's number without needless digits."""
    text = f"{value:.6g}"
    return "0" if text == "-0" else text.replace("-", "\u2212")


def arrow(start: Point, end: Point, css: str, head: float = 4.0) -> str:
    """Return an arrow between two places [px]; a dot where it has no length."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy)
    if length < 1.5:
        return f'<circle class="{css} tip" cx="{start[0]:.1f}" cy="{start[1]:.1f}" r="2"/>'
    ux, uy = dx / length, dy / length
    head = min(head, length)
    back = end[0] - head * ux, end[1] - head * uy
    wing = 0.55 * head
    tip = (
        f"{end[0]:.1f},{end[1]:.1f} {back[0] - wing * uy:.1f},{back[1] + wing * ux:.1f} "
        f"{back[0] + wing * uy:.1f},{back[1] - wing * ux:.1f}"
    )
    return (
        f'<line class="{css}" x1="{start[0]:.1f}" y1="{start[1]:.1f}" x2="{back[0]:.1f}" y2="{back[1]:.1f}"/>'
        f'<polygon class="{css} tip" points="{tip}"/>'
    )


def png_uri(pixels: NDArray[np.uint8]) -> str:
    """Return a picture uint8 RGB `[H, W, 3]` as a data URI."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in np.ascontiguousarray(pixels))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    data = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)
    return "data:image/png;base64," + base64.b64encode(data).decode()


def jpeg_uri(data: bytes) -> str:
    """Return a JPEG file as a data URI."""
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _title(text: str) -> str:
    return f"<title>{html.escape(text)}</title>" if text else ""


def _runs(points: Iterable[Point]) -> list[list[Point]]:
    runs: list[list[Point]] = [[]]
    for point in points:
        if math.isfinite(point[0]) and math.isfinite(point[1]):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]
