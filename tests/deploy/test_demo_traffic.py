"""The demo's users: how many requests a second they send on this machine."""

from __future__ import annotations

from typing import Any

import pytest
from openai import APIConnectionError

from deploy.demo.traffic import USED_SHARE, Users, pace_for

TICKETS = [{"messages": [], "max_tokens": 1, "expected": ""}]


def users(monkeypatch: pytest.MonkeyPatch, error: Exception | None = None) -> Users:
    asking = Users(
        gateway="http://127.0.0.1:1", endpoint="x", api="http://127.0.0.1:1", token="", tickets=TICKETS
    )

    def answer(ticket: dict[str, Any]) -> tuple[str, str, str]:
        if error:
            raise error
        return "", "", ""

    monkeypatch.setattr(asking, "_whole", answer)
    return asking


def test_pace__engine_answers_plenty__is_what_was_asked_for() -> None:
    assert pace_for(answered_a_second=100, most=8) == 8


def test_pace__engine_answers_little__is_its_share() -> None:
    assert pace_for(answered_a_second=12, most=8) == pytest.approx(12 * USED_SHARE)


def test_pace__engine_answers_nothing__goes_on_all_the_same() -> None:
    assert pace_for(answered_a_second=0, most=8) == 1


def test_answered_a_second__endpoint_answers__is_counted_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = users(monkeypatch)
    assert asking.answered_a_second(seconds=0.05, at_once=2) > 0
    assert asking.counts.sent == 0


def test_answered_a_second__endpoint_fails__counts_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = users(monkeypatch, APIConnectionError(request=None))  # type: ignore[arg-type]
    assert asking.answered_a_second(seconds=0.05, at_once=2) == 0
