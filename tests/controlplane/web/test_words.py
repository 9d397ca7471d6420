"""Numbers and times in the tables and tiles of pages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.template import Context, Template

from controlplane.web import words

NOW = datetime(2026, 11, 20, 9, 49, tzinfo=UTC)  # a Friday


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "no data"), (0.0024, "0.24%"), (0.123, "12.3%"), (0.0, "0.00%"), (-0.002, "−0.20%")],
)
def test_percent_text(value: float | None, text: str) -> None:
    assert words.percent_text(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "no data"),
        (0, "0"),
        (1234.5, "1,234"),
        (13.14, "13.1"),
        (1.5, "1.5"),
        (0.8421, "0.842"),
        (3, "3"),
        (-7, "−7"),
    ],
)
def test_number_text(value: float | None, text: str) -> None:
    assert words.number_text(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (45, "45 s"),
        (60, "1 min"),
        (95, "1 min 35 s"),
        (3_120, "52 min"),
        (11_040, "3 h 04 min"),
        (7_200, "2 h"),
        (90_000, "1 d 1 h"),
        (777_600, "9 d"),
    ],
)
def test_duration_text(seconds: float, text: str) -> None:
    assert words.duration_text(seconds) == text


@pytest.mark.parametrize(
    ("before", "text"),
    [
        (timedelta(minutes=5), "09:44"),
        (timedelta(hours=15, minutes=27), "Thu 18:22"),
        (timedelta(days=16), "4 Nov"),
        (timedelta(days=366), "19 Nov 2025"),
        (timedelta(days=-1), "21 Nov"),
    ],
)
def test_clock_text(before: timedelta, text: str) -> None:
    assert words.clock_text(NOW - before, now=NOW) == text


@pytest.mark.parametrize(("seconds", "text"), [(None, "no data"), (0.092, "92 ms"), (1.4, "1.4 s")])
def test_latency_text(seconds: float | None, text: str) -> None:
    assert words.latency_text(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(812, "812 B"), (1_204_224, "1.1 MiB"), (0, "0 B"), (5 * 2**40, "5.0 TiB")]
)
def test_bytes_text(size: int, text: str) -> None:
    assert words.bytes_text(size) == text


def test_count_text__one_and_many() -> None:
    assert words.count_text(1, "rollout") == "1 rollout"
    assert words.count_text(2_000, "rollout") == "2,000 rollouts"


def rendered(source: str, **values: object) -> str:
    return Template("{% load headgate %}" + source).render(Context(values))


def test_pill__every_tone__has_icon_and_word() -> None:
    for tone in ("pass", "warn", "fail", "info", "mute"):
        text = rendered("{% pill tone 'Word' %}", tone=tone)
        assert f'class="pill {tone}"' in text
        assert "icons.svg#" in text
        assert "Word" in text


def test_pill__words_with_markup__are_escaped() -> None:
    assert "<b>" not in rendered("{% pill 'pass' words %}", words="<b>")


def test_clock__moment__is_machine_readable_too() -> None:
    text = rendered("{% clock at now %}", at=NOW - timedelta(minutes=5), now=NOW)
    assert text == '<time datetime="2026-11-20T09:44:00+00:00" title="2026-11-20 09:44:00 UTC">09:44</time>'


@pytest.mark.parametrize(
    ("name", "letters"), [("ana", "AN"), ("release-manager", "RM"), ("a", "A"), ("", "")]
)
def test_initials(name: str, letters: str) -> None:
    assert rendered("{{ name|initials }}", name=name) == letters


def test_quiet__no_data__is_a_hint() -> None:
    assert rendered("{{ 'no data'|quiet }}") == '<span class="hint">no data</span>'
    assert rendered("{{ '13.1'|quiet }}") == "13.1"
