"""How the variant that serves fares: when an outage begins, what is counted in it, when it is over."""

from __future__ import annotations

from typing import Any

import pytest

from rollouts.domain.record.intervals import ArmCounts, Outcomes
from rollouts.domain.serving import Serving, began_title, ended_title, outage_sentence

AT = 1_772_446_931.0  # 10:22:11 UTC


def counts(answered: int = 0, failed: int = 0, fallback: int = 0, ready: float = 1.0) -> ArmCounts:
    ended = Outcomes(answered=answered, failed=failed, fallback=fallback)
    return ArmCounts(ended.ended, failed + fallback, ended.ended, ready, outcomes=ended)


def later(before: Serving, found: ArmCounts | None, *, not_ready: str = "", at: float = AT) -> Serving:
    return before.after(found, not_ready=not_ready, looked=True, limit=0.2, started_at=at, seconds=5.0)


SOUND = Serving("triage-v5-abc")


def test_after__all_answered__remembers_nothing() -> None:
    assert later(SOUND, counts(answered=50)).to_json() == {}


def test_after__few_failures__are_no_outage_but_are_remembered_for_a_while() -> None:
    made = later(SOUND, counts(answered=50, failed=2))
    assert made.outage is None
    assert Serving.from_json(made.to_json(), variant=SOUND.variant) == made
    for _ in range(6):
        made = later(made, counts(answered=50))
    assert made.to_json() == {}


def test_after__half_fails__is_out_of_order_at_once() -> None:
    outage = later(SOUND, counts(answered=5, failed=4, fallback=3)).lasting
    assert outage is not None
    assert (outage.since, outage.seconds, outage.requests, outage.failed, outage.rescued) == (
        AT,
        5.0,
        12,
        7,
        3,
    )


def test_after__engine_not_ready_and_nobody_asks__is_out_of_order() -> None:
    outage = later(SOUND, counts(), not_ready="its engine is starting").lasting
    assert outage is not None
    assert outage.why == "its engine is starting"


def test_after__goes_on__adds_up_and_keeps_when_it_began() -> None:
    made = later(SOUND, counts(failed=10), not_ready="its engine is starting")
    outage = later(made, counts(fallback=20), not_ready="its engine is starting", at=AT + 5).lasting
    assert outage is not None
    assert (outage.since, outage.seconds, outage.requests, outage.rescued) == (AT, 10.0, 30, 20)


def test_after__in_order_again__is_told_once_and_forgotten() -> None:
    made = later(later(SOUND, counts(failed=10)), counts(answered=100), at=AT + 5)
    assert made.outage is not None
    assert made.outage.over
    assert made.lasting is None
    for _ in range(6):
        made = later(made, counts(answered=100))
    assert made.to_json() == {}


def test_from_json__kept_about_another_variant__begins_anew() -> None:
    made = later(SOUND, counts(failed=10))
    assert Serving.from_json(made.to_json(), variant="triage-v6-def") == Serving("triage-v6-def")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({}, "No request came in that time."),
        ({"failed": 1}, "Of 1 request in that time, 1 failed for its user."),
        (
            {"fallback": 400, "failed": 25},
            "Of 425 requests in that time, 400 were answered by v6 and 25 failed for their users.",
        ),
        (
            {"fallback": 7},
            "Of 7 requests in that time, 7 were answered by v6 and none failed for its user.",
        ),
    ],
)
def test_outage_sentence__who_answered__and_who_did_not(found: dict[str, Any], words: str) -> None:
    outage = later(SOUND, counts(**found), not_ready="its engine is starting").lasting
    assert outage is not None
    assert outage_sentence(outage, helper="v6") == words


def test_titles__name_since_when_and_how_long() -> None:
    outage = later(SOUND, counts(failed=10)).lasting
    assert outage is not None
    assert began_title("v5", outage) == "v5 has been out of order since 10:22:11 UTC"
    assert ended_title("v5", outage) == "v5 works again after 5 s (since 10:22:11 UTC)"
