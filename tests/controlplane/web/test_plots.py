"""Server-drawn pictures: where things lie, and that words travel with them."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from django.utils.safestring import SafeString

from controlplane.web import plots


def parsed(picture: SafeString) -> ElementTree.Element:
    return ElementTree.fromstring(picture)


def test_traffic_bar__shares__are_as_wide_as_they_are_large() -> None:
    svg = parsed(plots.traffic_bar([(9_000, 0), (1_000, 1)], label="v1 90%, v2 10%"))
    first, second = svg.findall("rect")
    assert (first.get("class"), first.get("x"), float(first.get("width") or 0)) == ("a0", "0.00", 89.0)
    assert (second.get("class"), second.get("x")) == ("a1", "90.00")
    assert svg.get("aria-label") == "v1 90%, v2 10%"


def test_traffic_bar__all_on_one__is_full() -> None:
    (only,) = parsed(plots.traffic_bar([(10_000, 0)], label="v1")).findall("rect")
    assert only.get("width") == "100.00"


def test_traffic_bar__label_with_markup__is_escaped() -> None:
    picture = plots.traffic_bar([(10_000, 0)], label='"><script>')
    assert "<script>" not in picture
    assert parsed(picture).get("aria-label") == '"><script>'


def circle_x(picture: SafeString) -> float:
    return float(parsed(picture).find("circle").get("cx"))  # type: ignore[union-attr, arg-type]


def test_forest__limit_and_zero__lie_where_every_gate_has_them() -> None:
    at_zero = plots.forest(estimate=0, low=-0.5, high=0.5, tone="pass", strict=True, label="x")
    at_limit = plots.forest(estimate=1, low=0.5, high=1.5, tone="warn", strict=True, label="x")
    zero = float(parsed(at_zero).find("line[@class='zero']").get("x1"))  # type: ignore[union-attr, arg-type]
    limit = float(parsed(at_zero).find("line[@class='limit']").get("x1"))  # type: ignore[union-attr, arg-type]
    assert circle_x(at_zero) == zero
    assert circle_x(at_limit) == limit
    assert zero < limit


def test_forest__tolerant__draws_the_limit_only() -> None:
    svg = parsed(plots.forest(estimate=0, low=-1, high=1, tone="pass", strict=False, label="x"))
    assert svg.find("line[@class='zero']") is None
    assert svg.find("line[@class='limit']") is not None


def test_forest__open_to_the_right__ends_in_an_arrow() -> None:
    closed = parsed(plots.forest(estimate=0.2, low=0, high=0.5, tone="warn", strict=False, label="x"))
    opened = parsed(plots.forest(estimate=0.2, low=0, high=None, tone="warn", strict=False, label="x"))
    assert closed.findall("path") == []
    assert len(opened.findall("path")) == 1


def test_forest__estimate_off_the_picture__is_an_arrow_and_no_dot() -> None:
    svg = parsed(plots.forest(estimate=-9, low=-12, high=-7, tone="pass", strict=False, label="x"))
    assert svg.find("circle") is None
    assert svg.findall("path")


def test_forest__nothing_measured__draws_marks_only() -> None:
    svg = parsed(plots.forest(estimate=None, low=None, high=None, tone="mute", strict=True, label="x"))
    assert svg.find("circle") is None
    assert svg.find("line[@class='limit']") is not None


@pytest.mark.parametrize(("value", "beyond"), [(0.0, False), (19.9, False), (20.0, True), (1e12, True)])
def test_evidence_bar__threshold__is_reached_where_the_mark_is(value: float, beyond: bool) -> None:
    svg = parsed(plots.evidence_bar(value, threshold=20, label="x", tone="warn"))
    bar = svg.find("rect[@class='f warn']")
    mark = float(svg.find("line[@class='limit']").get("x1"))  # type: ignore[union-attr, arg-type]
    assert bar is not None
    end = float(bar.get("x") or 0) + float(bar.get("width") or 0)
    assert (end >= mark - 0.1) == beyond
    assert end <= plots.EVIDENCE_WIDTH


@pytest.mark.parametrize("values", [[], [1.0], [None, 1.0, None], [None]])
def test_sparkline__less_than_two_values__draws_nothing(values: list[float | None]) -> None:
    assert plots.sparkline(values, label="x") == ""


def test_sparkline__flat_or_with_gaps__has_no_nan() -> None:
    picture = plots.sparkline([1.0, None, 1.0, 1.0], label="x")
    assert "nan" not in picture
    assert len(re.findall(r"L", parsed(picture).findall("path")[1].get("d") or "")) == 2


def test_plan_line__steps__rise_at_their_minute() -> None:
    svg = parsed(plots.plan_line([(1, 5), (11, 100)], end=12, ticks=[(0, "now"), (12, "end")], label="x"))
    path = svg.findall("path")[1].get("d") or ""
    assert path.count("L") == 5
    assert [text.text for text in svg.findall("text")] == ["0%", "50%", "100%", "now", "end"]


def test_score_plot__scores_between_0_and_1__never_show_more_than_1() -> None:
    svg = parsed(plots.score_plot([("v1", 0.7), ("v2", 1.0)], highlight="v2", label="x"))
    ticks = [float(text.text or 0) for text in svg.findall("text")[:5]]
    assert max(ticks) == 1
    assert [circle.get("class") for circle in svg.findall("circle")] == ["a0", "a1"]


def test_score_plot__no_score__draws_nothing() -> None:
    assert plots.score_plot([], highlight="", label="x") == ""
