"""The parts that templates are made of: `{% load headgate %}`. The drawing itself is in `web/plots.py`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django import template
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString

from controlplane.access.roles import Action, refusal
from controlplane.kernel import words
from controlplane.kernel.words import percent_of_bp
from controlplane.web import live, plots
from controlplane.web import ridges as ridge_plots

register = template.Library()

PILL_ICON = {
    "pass": "circle-check",
    "warn": "circle-alert",
    "fail": "circle-x",
    "info": "activity",
    "mute": "circle-dashed",
}


@register.simple_tag
def icon(name: str, css: str = "ico") -> SafeString:
    """An icon of the sprite; decoration only, words stand beside it."""
    return format_html(
        '<svg class="{}" aria-hidden="true"><use href="{}#{}"/></svg>', css, static("vendor/icons.svg"), name
    )


@register.simple_tag
def pill(tone: str, text: str, icon_name: str = "") -> SafeString:
    """A status: always icon, word and colour. Tones: pass, warn, fail, info, mute."""
    mark = icon(icon_name or PILL_ICON[tone], "ico-s")
    return format_html('<span class="pill {}">{}{}</span>', tone, mark, text)


@register.simple_tag
def traffic_bar(shares: Sequence[tuple[int, int]], label: str, large: bool = False) -> SafeString:
    return plots.traffic_bar(shares, label=label, large=large)


@register.simple_tag
def stacked_bar(segments: Sequence[plots.Segment], label: str) -> SafeString:
    return plots.stacked_bar(segments, label=label)


@register.simple_tag
def hatch() -> SafeString:
    return plots.hatch()


@register.simple_tag
def key_mark(css: str, hatched: bool = False) -> SafeString:
    return plots.key_mark(css, hatched=hatched)


@register.simple_tag
def meter(percent: float, arm: int = 0) -> SafeString:
    return plots.meter(percent, arm=arm)


@register.simple_tag
def step_bar(percent: float) -> SafeString:
    return plots.step_bar(percent)


@register.simple_tag
def sparkline(values: Sequence[float | None], label: str, tone: str = "a0") -> SafeString:
    return plots.sparkline(values, label=label, tone=tone)


@register.simple_tag
def forest(
    estimate: float | None, low: float | None, high: float | None, tone: str, strict: bool, label: str
) -> SafeString:
    return plots.forest(estimate=estimate, low=low, high=high, tone=tone, strict=strict, label=label)


@register.simple_tag
def forest_axis() -> SafeString:
    return plots.forest_axis()


@register.simple_tag
def evidence_bar(value: float, threshold: float, label: str, tone: str) -> SafeString:
    return plots.evidence_bar(value, threshold=threshold, label=label, tone=tone)


@register.simple_tag
def ridges(rows: Sequence[ridge_plots.Ridge], label: str) -> SafeString:
    return ridge_plots.ridges(rows, label=label)


@register.simple_tag
def plan_line(
    points: Sequence[tuple[float, float]], end: float, ticks: Sequence[tuple[float, str]], label: str
) -> SafeString:
    return plots.plan_line(points, end=end, ticks=ticks, label=label)


@register.simple_tag
def score_plot(scores: Sequence[tuple[str, float]], highlight: str, label: str) -> SafeString:
    return plots.score_plot(scores, highlight=highlight, label=label)


@register.simple_tag
def newest_event_id() -> int:
    """Where the live stream of this page has to begin: what happens after this very moment. One query."""
    return live.newest_id()


@register.simple_tag
def refusal_of(role: str, action: str) -> str:
    """Why `role` may not do `action` (a name of `Action`, such as GLOBAL_STOP); empty when it may."""
    return refusal(role, Action[action])


@register.simple_tag
def clock(at: datetime | None, now: datetime) -> SafeString:
    """A moment as `<time>`, with the full date on hover."""
    if at is None:
        return SafeString("")
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        at.isoformat(timespec="seconds"),
        f"{at:%Y-%m-%d %H:%M:%S} UTC",
        words.clock_text(at, now=now),
    )


@register.filter
def quiet(text: str) -> str | SafeString:
    """`no data` in the voice of a hint; anything else as it is."""
    return format_html('<span class="hint">{}</span>', text) if text == "no data" else text


@register.filter
def share(basis_points: int) -> str:
    return percent_of_bp(basis_points)


@register.filter
def as_percent(value: float | None) -> str:
    return words.percent_or_no_data(value)


@register.filter
def as_number(value: float | None) -> str:
    return words.number_text(value)


@register.filter
def as_seconds(value: float | None) -> str:
    return words.latency_text(value)


@register.filter
def as_duration(value: float) -> str:
    return words.duration_of_seconds(value)


@register.filter
def as_bytes(value: int) -> str:
    return words.bytes_text(value)


@register.filter
def initials(name: str) -> str:
    """`ana` -> `AN`, `release-manager` -> `RM`."""
    parts = [part for part in name.replace(".", " ").replace("-", " ").replace("_", " ").split() if part]
    letters = parts[0][:1] + parts[1][:1] if len(parts) > 1 else "".join(parts)[:2]
    return letters.upper()
