"""Small pictures drawn on the server as SVG: no script, no inline style, widths are attributes.

Every picture carries its words in `aria-label`, and the same numbers stand in the text beside it. All take
plain values and return markup that is safe to put on a page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

FOREST_WIDTH, FOREST_HEIGHT = 300, 40
FOREST_LOW, FOREST_HIGH = -1.6, 1.7
EVIDENCE_WIDTH = 220
EVIDENCE_LOW, EVIDENCE_HIGH = -1.0, 3.0  # powers of ten


def traffic_bar(shares: Sequence[tuple[int, int]], *, label: str, large: bool = False) -> SafeString:
    """How traffic is split: (basis points, arm number) from left to right; the rest of 10,000 stays empty."""
    gap = 0.3 if large else 1.0
    rects, x = [], 0.0
    for basis_points, arm in shares:
        percent = basis_points / 100
        if percent > 0:
            width = max(percent - gap, 0.4) if percent < 100 else 100.0
            rects.append((arm, f"{x:.2f}", f"{width:.2f}"))
        x += percent
    return format_html(
        '<svg class="tbar{}" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{}">'
        "{}</svg>",
        " lg" if large else "",
        label,
        format_html_join("", '<rect class="a{}" x="{}" width="{}" height="8"/>', rects),
    )


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a stacked bar: its classes in the style sheet, and how many percent of the bar it is. A hatched one is
    told from its neighbours without colour."""

    css: str
    percent: float
    hatched: bool = False


def stacked_bar(segments: Sequence[Segment], *, label: str) -> SafeString:
    """Parts of a whole from left to right. Widths are percentages of the picture: a hatch is never stretched."""
    rects: list[SafeString] = []
    x = 0.0
    for segment in segments:
        place = format_html('x="{}%" width="{}%" height="16"', f"{x:.2f}", f"{segment.percent:.2f}")
        rects.append(format_html('<rect class="{}" {}/>', segment.css, place))
        if segment.hatched:
            rects.append(format_html('<rect {} fill="url(#hatch)"/>', place))
        x += segment.percent
    return format_html(
        '<svg class="stacked" width="100%" height="16" role="img" aria-label="{}">{}</svg>',
        label,
        format_html_join("", "{}", ((rect,) for rect in rects)),
    )


def hatch() -> SafeString:
    """What stacked bars and their keys are drawn with, once on a page: the hatch, and a square with and without it."""
    return SafeString(
        '<svg class="vh" width="0" height="0" aria-hidden="true"><defs><pattern id="hatch" width="6" height="6"'
        ' patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="stripe" width="3" height="6"/>'
        '</pattern></defs><symbol id="mark"><rect width="12" height="12" rx="3"/></symbol>'
        '<symbol id="mark-hatched"><rect width="12" height="12" rx="3"/>'
        '<rect width="12" height="12" rx="3" fill="url(#hatch)"/></symbol></svg>'
    )


def key_mark(css: str, *, hatched: bool) -> SafeString:
    """The square of a class in the key of a stacked bar."""
    return format_html(
        '<svg class="keymark {}" aria-hidden="true"><use href="#mark{}"/></svg>',
        css,
        "-hatched" if hatched else "",
    )


def meter(percent: float, *, arm: int = 0, width: int = 72) -> SafeString:
    """A bar of `percent` beside a number that says the same."""
    filled = min(max(percent, 0.0), 100.0) * width / 100
    return format_html(
        '<svg class="meter" viewBox="0 0 {0} 6" width="{0}" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="t" width="{0}" height="6"/><rect class="f a{1}" width="{2}" height="6"/></svg>',
        width,
        arm,
        f"{filled:.1f}",
    )


def step_bar(percent: float) -> SafeString:
    """The progress line under a step."""
    return format_html(
        '<svg class="bar" viewBox="0 0 100 3" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="t" width="100" height="3"/><rect class="f" width="{}" height="3"/></svg>',
        f"{min(max(percent, 0.0), 100.0):.1f}",
    )


def sparkline(values: Sequence[float | None], *, label: str, tone: str = "a0") -> SafeString:
    """A line of at least two values without axes; gaps (None) are bridged. Nothing for fewer values."""
    width, height = 88, 24
    known = [(i, v) for i, v in enumerate(values) if v is not None]
    if len(known) < 2:
        return SafeString("")
    low, high = min(v for _, v in known), max(v for _, v in known)
    span = (high - low) or 1.0
    last = len(values) - 1
    points = [(2 + i * (width - 4) / last, height - 3 - (v - low) / span * (height - 6)) for i, v in known]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return format_html(
        '<svg class="spark {}" viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" aria-label="{}">'
        '<path class="area" d="{path}L{last} {h}L{first} {h}Z"/><path d="{path}"/>'
        '<circle cx="{last}" cy="{y}" r="2"/></svg>',
        tone,
        label,
        w=width,
        h=height,
        path=path,
        first=f"{points[0][0]:.1f}",
        last=f"{points[-1][0]:.1f}",
        y=f"{points[-1][1]:.1f}",
    )


def _forest_x(value: float) -> float:
    inside = min(max(value, FOREST_LOW), FOREST_HIGH)
    return 6 + (inside - FOREST_LOW) / (FOREST_HIGH - FOREST_LOW) * (FOREST_WIDTH - 12)


def forest(
    *, estimate: float | None, low: float | None, high: float | None, tone: str, strict: bool, label: str
) -> SafeString:
    """An interval on the axis that all gates share: 0 is no worsening, 1 the limit, worse to the right.

    A strict gate fails right of 0 and passes left of 1, so it draws both marks; a tolerant one the limit
    only. An interval that is open, or that leaves the picture, ends in an arrow; without an estimate only
    marks are drawn.
    """
    middle = FOREST_HEIGHT / 2
    zero, limit = _forest_x(0), _forest_x(1)
    parts = []
    if strict:
        parts.append(
            f'<rect class="zone soft" x="{zero:.1f}" y="0" width="{limit - zero:.1f}"'
            f' height="{FOREST_HEIGHT}"/>'
            f'<line class="zero" x1="{zero:.1f}" x2="{zero:.1f}" y1="0" y2="{FOREST_HEIGHT}"/>'
        )
    parts.append(
        f'<rect class="zone" x="{limit:.1f}" y="0" width="{FOREST_WIDTH - limit:.1f}"'
        f' height="{FOREST_HEIGHT}"/>'
        f'<line class="limit" x1="{limit:.1f}" x2="{limit:.1f}" y1="0" y2="{FOREST_HEIGHT}"/>'
    )
    if estimate is not None:
        left = _forest_x(FOREST_LOW if low is None else low)
        right = _forest_x(FOREST_HIGH if high is None else high)
        parts.append(
            f'<line class="ci {tone}" x1="{left:.1f}" x2="{right:.1f}" y1="{middle}" y2="{middle}"/>'
            + _end(left, tone, middle, beyond=low is None or low < FOREST_LOW, towards=-1)
            + _end(right, tone, middle, beyond=high is None or high > FOREST_HIGH, towards=1)
            + _point(estimate, tone, middle)
        )
    # Only numbers and fixed class names are in the parts; `tone` is one of our own words.
    return format_html(
        '<svg class="forest" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>',
        FOREST_WIDTH,
        FOREST_HEIGHT,
        label,
        mark_safe("".join(parts)),  # noqa: S308
    )


def _point(estimate: float, tone: str, middle: float) -> str:
    if FOREST_LOW <= estimate <= FOREST_HIGH:
        return f'<circle class="pt {tone}" cx="{_forest_x(estimate):.1f}" cy="{middle}" r="4.5"/>'
    x, towards = _forest_x(estimate), -1 if estimate < FOREST_LOW else 1
    return f'<path class="{tone}" d="M{x + 4 * towards:.1f} {middle} l{-9 * towards} -6 v12 z"/>'


def _end(x: float, tone: str, middle: float, *, beyond: bool, towards: int) -> str:
    if beyond:
        return f'<path class="{tone}" d="M{x + 3 * towards:.1f} {middle} l{-5 * towards} -4 v8 z"/>'
    top, bottom = middle - 4, middle + 4
    return f'<line class="{tone}" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}" stroke-width="2"/>'


def forest_axis() -> SafeString:
    """The words over a column of forests."""
    return format_html(
        '<svg class="forest axis16" viewBox="0 0 {} 16" height="16" aria-hidden="true">'
        '<text x="6" y="12">better</text><text x="{}" y="12" text-anchor="middle">no worsening</text>'
        '<text x="{}" y="12" text-anchor="middle">limit</text></svg>',
        FOREST_WIDTH,
        f"{_forest_x(0):.1f}",
        f"{_forest_x(1):.1f}",
    )


def evidence_bar(value: float, *, threshold: float, label: str, tone: str) -> SafeString:
    """An e-value on a logarithmic axis from 0.1 to 1,000; the mark is the threshold (1/alpha)."""
    start, one, mark, here = (_evidence_x(v) for v in (0.1, 1.0, threshold, value))
    return format_html(
        '<svg class="evid" viewBox="0 0 {w} 24" role="img" aria-label="{label}">'
        '<rect class="zone" x="{mark}" y="0" width="{zone}" height="24"/>'
        '<line class="one" x1="{one}" x2="{one}" y1="4" y2="20"/>'
        '<rect class="t" x="{start}" y="10" width="{track}" height="4"/>'
        '<rect class="f {tone}" x="{start}" y="10" width="{filled}" height="4"/>'
        '<line class="limit" x1="{mark}" x2="{mark}" y1="0" y2="24"/></svg>',
        w=EVIDENCE_WIDTH,
        label=label,
        tone=tone,
        start=f"{start:.1f}",
        one=f"{one:.1f}",
        mark=f"{mark:.1f}",
        zone=f"{EVIDENCE_WIDTH - mark:.1f}",
        track=EVIDENCE_WIDTH - 8,
        filled=f"{max(0.0, here - start):.1f}",
    )


def _evidence_x(value: float) -> float:
    power = math.log10(value) if value > 0 else EVIDENCE_LOW
    inside = min(max(power, EVIDENCE_LOW), EVIDENCE_HIGH)
    return 4 + (inside - EVIDENCE_LOW) / (EVIDENCE_HIGH - EVIDENCE_LOW) * (EVIDENCE_WIDTH - 8)


def plan_line(
    points: Sequence[tuple[float, float]], *, end: float, ticks: Sequence[tuple[float, str]], label: str
) -> SafeString:
    """A step line of planned shares: points are (minute, percent from then on); ticks are (minute, words)."""
    width, height = 360, 84

    def px(minute: float) -> float:
        return 34 + minute / (end or 1) * (width - 42)

    def py(percent: float) -> float:
        return 8 + (100 - percent) / 100 * (height - 28)

    path, last = f"M{px(0):.1f} {py(0):.1f}", 0.0
    for minute, percent in points:
        path += f"L{px(minute):.1f} {py(last):.1f}L{px(minute):.1f} {py(percent):.1f}"
        last = percent
    path += f"L{px(end):.1f} {py(last):.1f}"
    grid = format_html_join(
        "",
        '<line class="grid" x1="34" x2="{}" y1="{}" y2="{}"/>'
        '<text x="28" y="{}" text-anchor="end">{}%</text>',
        [(width - 8, f"{py(p):.1f}", f"{py(p):.1f}", f"{py(p) + 3.5:.1f}", p) for p in (0, 50, 100)],
    )
    words = format_html_join(
        "",
        '<text x="{}" y="{}" text-anchor="{}">{}</text>',
        [
            (
                f"{px(minute):.1f}",
                height - 4,
                "start" if i == 0 else "end" if minute >= end else "middle",
                text,
            )
            for i, (minute, text) in enumerate(ticks)
        ],
    )
    return format_html(
        '<svg class="planline" viewBox="0 0 {w} {h}" role="img" aria-label="{label}">{grid}'
        '<path class="area" d="{path}L{right} {floor}Z"/><path d="{path}"/>{words}</svg>',
        w=width,
        h=height,
        label=label,
        grid=grid,
        path=path,
        right=f"{px(end):.1f}",
        floor=f"{py(0):.1f}",
        words=words,
    )


def score_plot(scores: Sequence[tuple[str, float]], *, highlight: str, label: str) -> SafeString:
    """One value a version, oldest first, joined by a line; `highlight` names the one drawn as the
    candidate.
    """
    width, height = 372, 170
    if not scores:
        return SafeString("")
    low, high = _score_range([value for _, value in scores])

    def px(i: int) -> float:
        return 44 + i * (width - 64) / max(len(scores) - 1, 1)

    def py(value: float) -> float:
        return 12 + (high - value) / (high - low) * (height - 40)

    ticks = [low + (high - low) * part / 4 for part in range(5)]
    grid = format_html_join(
        "",
        '<line class="grid" x1="38" x2="{}" y1="{}" y2="{}"/><text x="32" y="{}" text-anchor="end">{}</text>',
        [(width - 8, f"{py(t):.1f}", f"{py(t):.1f}", f"{py(t) + 4:.1f}", f"{t:.2g}") for t in ticks],
    )
    join = "M" + "L".join(f"{px(i):.1f} {py(value):.1f}" for i, (_, value) in enumerate(scores))
    dots = format_html_join(
        "",
        '<circle class="{}" cx="{}" cy="{}" r="4"/><text x="{}" y="{}" text-anchor="middle">{}</text>',
        [
            (
                "a1" if name == highlight else "a0",
                f"{px(i):.1f}",
                f"{py(v):.1f}",
                f"{px(i):.1f}",
                height - 6,
                name,
            )
            for i, (name, v) in enumerate(scores)
        ],
    )
    return format_html(
        '<svg class="scores" viewBox="0 0 {} {}" role="img" aria-label="{}">{}'
        '<path class="join" d="{}"/>{}</svg>',
        width,
        height,
        label,
        grid,
        join,
        dots,
    )


def _score_range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * 0.25 or abs(high) * 0.1 or 0.1
    if low >= 0 and high <= 1:
        return max(0.0, low - room), min(1.0, high + room)
    return low - room, high + room
