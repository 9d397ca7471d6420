"""Ridges: where the means lie, who is pale, and what is said without data."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from controlplane.web.ridges import APART, LEFT, RIGHT, Ridge, ridges


def drawn(*rows: Ridge, label: str = "Rewards") -> ElementTree.Element:
    return ElementTree.fromstring(ridges(rows, label=label))


def mean_x(svg: ElementTree.Element, css: str) -> float:
    found = svg.find(f"line[@class='mean {css}']")
    assert found is not None
    return float(found.get("x1", ""))


def tops(svg: ElementTree.Element) -> list[float]:
    """How high each curve rises over its own line."""
    found = []
    for line in svg.iter("line"):
        if (line.get("class") or "").startswith("mean"):
            found.append(float(line.get("y2", "")) - float(line.get("y1", "")))
    return found


BASELINE = Ridge(0, "v1", "baseline", 0.70, 0.01)
CANDIDATE = Ridge(1, "v2", "candidate", 0.74, 0.005)


def test_ridges__means__lie_on_one_axis_in_their_order() -> None:
    svg = drawn(BASELINE, CANDIDATE)
    assert LEFT < mean_x(svg, "a0") < mean_x(svg, "a1") < RIGHT


def test_ridges__tick__lies_where_an_arm_of_that_mean_lies() -> None:
    svg = drawn(BASELINE, CANDIDATE)
    ticks = {
        text.text: float(text.get("x", ""))
        for text in svg.iter("text")
        if text.get("text-anchor") == "middle"
    }
    assert ticks["0.70"] == pytest.approx(mean_x(svg, "a0"), abs=0.1)
    assert 2 <= len(ticks) <= 6


def test_ridges__narrower_posterior__is_taller() -> None:
    wide, narrow = tops(drawn(BASELINE, CANDIDATE))
    assert narrow == pytest.approx(50)
    assert wide == pytest.approx(50 / 2**0.5, abs=0.1)


def test_ridges__arm_that_is_out__is_pale_and_does_not_stretch_the_axis() -> None:
    alone = drawn(BASELINE, CANDIDATE)
    beside = drawn(BASELINE, CANDIDATE, Ridge(2, "v3", "out", 0.72, 0.012, out=True))
    assert beside.find("path[@class='a2 out']") is not None
    assert mean_x(beside, "a1") == mean_x(alone, "a1")


def test_ridges__wide_arm_that_is_out__ends_at_the_edge_of_the_axis() -> None:
    svg = drawn(BASELINE, CANDIDATE, Ridge(2, "v3", "out", 0.72, 0.2, out=True))
    path = svg.find("path[@class='a2 out']")
    assert path is not None
    xs = [float(pair.split()[0]) for pair in re.findall(r"[ML]([\d. ]+)", path.get("d", ""))]
    assert (min(xs), max(xs)) == (LEFT, RIGHT)


def test_ridges__arm_that_is_out_far_away__is_written_at_the_edge_of_its_side() -> None:
    svg = drawn(BASELINE, CANDIDATE, Ridge(2, "v3", "out", 0.2, 0.01, out=True))
    assert svg.find("path[@class='a2 out']") is None
    assert "◂ 0.200" in [text.text for text in svg.iter("text")]


def test_ridges__arm_without_data__says_so_and_draws_no_curve() -> None:
    svg = drawn(Ridge(0, "v1", "baseline", None, None), CANDIDATE)
    assert len(svg.findall("path")) == 1
    assert "no data" in [text.text for text in svg.iter("text")]


def test_ridges__no_data_at_all__names_every_arm_without_an_axis() -> None:
    svg = drawn(Ridge(0, "v1", "baseline", None, None), Ridge(1, "v2", "candidate", None, None))
    assert svg.find("line[@class='grid']") is None
    assert [text.text for text in svg.iter("text") if text.get("class") == "l"] == ["v1", "v2"]


@pytest.mark.parametrize("mean", [0.0, 0.0001, 0.5, 0.99999, 1.0])
def test_ridges__certain_posterior__stays_on_the_picture(mean: float) -> None:
    svg = drawn(Ridge(0, "v1", "baseline", mean, 0.0), Ridge(1, "v2", "candidate", mean, 1e-7))
    for css in ("a0", "a1"):
        assert LEFT <= mean_x(svg, css) <= RIGHT


def test_ridges__more_arms__are_higher_by_one_row_each() -> None:
    def height(number: int) -> int:
        svg = drawn(*[Ridge(i, f"v{i}", "", 0.5, 0.01) for i in range(number)])
        return int(svg.get("viewBox", "").split()[3])

    assert height(4) - height(3) == APART


def test_ridges__names_with_markup__are_escaped() -> None:
    picture = ridges([Ridge(0, "<b>", '"><script>', 0.5, 0.01)], label='"><i>')
    assert "<script>" not in picture
    assert ElementTree.fromstring(picture).get("aria-label") == '"><i>'
