"""Posteriors as ridges, one an arm on a shared axis: drawn on the server like everything in `web/plots.py`.

The same numbers stand in a table beside the picture; `label` says the picture in words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

WIDTH, LEFT, RIGHT = 372, 92, 356
FIRST, APART, TALLEST, LOWEST = 62, 56, 50.0, 12.0
POINTS = 64
TAIL_SDS = 3.4
MOST_TICKS = 5
LEAST_SPAN = 0.01
STRETCH = 2.5  # how much wider than the racing arms alone the axis may become


@dataclass(frozen=True, slots=True)
class Ridge:
    """One arm: `mean` and `sd` of a normal posterior of a value in 0 to 1, None before it has any data; `out` draws
    it pale.
    """

    arm: int
    name: str
    hint: str
    mean: float | None
    sd: float | None
    out: bool = False


@dataclass(frozen=True, slots=True)
class _Axis:
    low: float
    high: float

    def x(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        return LEFT + (inside - self.low) / (self.high - self.low) * (RIGHT - LEFT)


def ridges(rows: Sequence[Ridge], *, label: str) -> SafeString:
    """The rows from top to bottom with a dotted line at each mean.

    Narrow posteriors are tall ones (height falls with the root of the spread, so that a wide one stays visible). The
    axis fits the arms that are still in, and stretches for those that are out only so far: a mean beyond it is written
    at the edge. Without any data only names are drawn.
    """
    axis = _axis(rows)
    ground = FIRST + APART * (max(len(rows), 1) - 1) + 8
    narrowest = min((row.sd for row in rows if row.sd), default=1.0)
    parts = [_row(row, FIRST + APART * i, axis, narrowest) for i, row in enumerate(rows)]
    return format_html(
        '<svg class="ridge" viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>',
        WIDTH,
        ground + 24,
        label,
        "" if axis is None else _grid(axis, ground),
        format_html_join("", "{}", ((part,) for part in parts)),
    )


def _axis(rows: Sequence[Ridge]) -> _Axis | None:
    known = [(row.mean, row.sd, row.out) for row in rows if row.mean is not None and row.sd is not None]
    if not known:
        return None
    inside = [(mean, sd) for mean, sd, out in known if not out] or [(mean, sd) for mean, sd, _ in known]
    low = min(mean - TAIL_SDS * sd for mean, sd in inside)
    high = max(mean + TAIL_SDS * sd for mean, sd in inside)
    room = (high - low) * STRETCH
    low = min([low, *(mean - sd for mean, sd, _ in known if mean - sd > high - room)])
    high = max([high, *(mean + sd for mean, sd, _ in known if mean + sd < low + room)])
    low, high = max(low, 0.0), min(high, 1.0)
    if high - low < LEAST_SPAN:
        low, high = max(0.0, low - LEAST_SPAN / 2), min(1.0, high + LEAST_SPAN / 2)
    return _Axis(low, high)


def _grid(axis: _Axis, ground: int) -> SafeString:
    step = _tick_step(axis.high - axis.low)
    digits = next(d for d in range(12) if math.isclose(round(step, d), step, rel_tol=1e-9))
    ticks = [
        number * step
        for number in range(math.ceil(axis.low / step - 1e-9), math.floor(axis.high / step + 1e-9) + 1)
    ]
    return format_html_join(
        "",
        '<line class="grid" x1="{0}" x2="{0}" y1="8" y2="{1}"/>'
        '<text x="{0}" y="{2}" text-anchor="middle">{3}</text>',
        ((f"{axis.x(tick):.1f}", ground, ground + 16, f"{tick:.{digits}f}") for tick in ticks),
    )


def _tick_step(span: float) -> float:
    size = 10.0 ** math.floor(math.log10(span / MOST_TICKS))
    return next(size * part for part in (1, 2, 2.5, 5, 10) if span / (size * part) <= MOST_TICKS)


def _row(row: Ridge, floor: int, axis: _Axis | None, narrowest: float) -> SafeString:
    words = format_html(
        '<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>'
        '<text class="l" x="0" y="{}">{}</text><text x="0" y="{}">{}</text>',
        LEFT,
        RIGHT,
        floor,
        floor,
        floor - 16,
        row.name,
        floor - 1,
        row.hint,
    )
    if axis is None or row.mean is None or row.sd is None:
        return format_html('{}<text x="{}" y="{}">no data</text>', words, LEFT + 8, floor - 6)
    if not axis.low <= row.mean <= axis.high:
        return format_html(
            '{}<text x="{}" y="{}" text-anchor="{}">{}</text>',
            words,
            *((LEFT + 8, floor - 6, "start") if row.mean < axis.low else (RIGHT - 8, floor - 6, "end")),
            f"◂ {row.mean:.3f}" if row.mean < axis.low else f"{row.mean:.3f} ▸",
        )
    sd = max(row.sd, (axis.high - axis.low) / 500)
    tall = max(TALLEST * math.sqrt(min(1.0, narrowest / sd)), LOWEST)
    start, end = max(row.mean - TAIL_SDS * sd, axis.low), min(row.mean + TAIL_SDS * sd, axis.high)
    curve = []
    for i in range(POINTS + 1):
        value = start + (end - start) * i / POINTS
        y = floor - tall * math.exp(-0.5 * ((value - row.mean) / sd) ** 2)
        curve.append(f"{axis.x(value):.1f} {y:.1f}")
    middle = f"{axis.x(row.mean):.1f}"
    return format_html(
        '{words}<path class="a{arm}{out}" d="M{start} {floor}L{curve}L{end} {floor}Z"/>'
        '<line class="mean a{arm}{out}" x1="{middle}" x2="{middle}" y1="{top}" y2="{floor}"/>',
        words=words,
        arm=row.arm,
        out=" out" if row.out else "",
        start=f"{axis.x(start):.1f}",
        end=f"{axis.x(end):.1f}",
        curve="L".join(curve),
        middle=middle,
        top=f"{floor - tall:.1f}",
        floor=floor,
    )
