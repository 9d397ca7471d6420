"""The template tags that every page may use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.template import Context, Template

NOW = datetime(2026, 11, 20, 9, 49, tzinfo=UTC)  # a Friday


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
