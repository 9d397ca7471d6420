"""The sentences as people read them, word for word."""

from __future__ import annotations

import re
from typing import Any

import pytest

from rollouts.domain.gates.family import GatesState
from rollouts.domain.gates.verdict import GateVerdict
from tests.rollouts.domain.gates.helpers import ERRORS, LATENCY, QUALITY, THUMBS, arm, feed, policy


def verdict(gate: dict[str, Any], times: int, **what: Any) -> GateVerdict:
    return feed(GatesState.initial(policy(gate)), times, **what).assess().verdicts[0]


def test_sentence__error_rate_fails__says_rates_change_interval_limit_and_odds() -> None:
    said = verdict(ERRORS, 3, baseline=arm(300, 3), candidate=arm(100, 6), share_bp=2500).sentence
    assert re.fullmatch(
        r"Error rate is worse: 6% of the candidate's requests failed, against 1% of the baseline's "
        r"\(\+5 pp, interval \+[\d.]+ pp to \+[\d.]+ pp, limit \+1 pp\)\. "
        r"The odds are [\d,]+ to 1 that this is no accident; at 20 to 1 it is rolled back\.",
        said,
    )


def test_sentence__error_rate_passes__says_counts_and_odds() -> None:
    said = verdict(ERRORS, 60, baseline=arm(100, 1), candidate=arm(100, 1)).sentence
    assert said.startswith(
        "Error rate is within its limit: 1% of the candidate's requests failed, against 1% "
    )
    assert "from 6,000 requests of the candidate and 6,000 of the baseline. The odds are " in said
    assert said.endswith(" to 1 that the limit is kept; at 20 to 1 the gate passes.")


def test_sentence__undecided__says_how_much_more_is_needed() -> None:
    found = verdict(ERRORS, 5, baseline=arm(100, 1), candidate=arm(100, 1))
    assert found.forecast_requests is not None
    assert found.forecast_minutes is not None
    assert re.search(
        r"^Error rate is not decided yet: .*, from 500 requests of the candidate and 500 of the baseline\. "
        r"If nothing changes, it passes after about [\d,]+ more candidate requests \(\d+ min\)\.$",
        found.sentence,
    )


def test_sentence__latency__names_slo_and_ratio() -> None:
    said = verdict(LATENCY, 60, baseline=arm(100, over=4), candidate=arm(100, over=16)).sentence
    assert said.startswith(
        "Time to first token is beyond its limit: 16% of the candidate's requests waited over 500 ms for the first "
        "token, against 4% of the baseline's (×4, interval ×"
    )
    assert "limit ×1.25)" in said


def test_sentence__quality__names_scores_and_pairs() -> None:
    failed = verdict(QUALITY, 60, pairs=[(0.9, 0.7), (0.8, 0.7)])
    assert failed.sentence.startswith(
        "Golden set is beyond its limit: the mean score of the candidate is 0.700, "
        "against 0.850 of the baseline (−0.15, "
    )
    passed = verdict(QUALITY, 40, pairs=[(0.9, 0.9)] * 4)
    assert "from 160 pairs" in passed.sentence


def test_sentence__feedback__speaks_of_answers() -> None:
    counts = {"baseline": arm(answers=100, thumbs_down=5), "candidate": arm(answers=100, thumbs_down=5)}
    assert (
        "of the candidate's answers were rated down, against 5% of the baseline's"
        in verdict(THUMBS, 30, **counts).sentence
    )


def test_sentence__absolute_limit__is_a_share() -> None:
    gate = {**ERRORS, "ratio": 0, "delta": 0.02, "mode": "tolerant"}
    found = verdict(gate, 60, baseline=arm(100, 1), candidate=arm(100, 1))
    assert "limit at most 2%" in found.sentence
    assert found.change_unit == "share"


def test_sentence__no_data__says_why() -> None:
    assert verdict(ERRORS, 0).sentence == "Error rate has no data: nothing was measured yet."
    assert (
        verdict(ERRORS, 2, candidate=arm(10)).sentence
        == "Error rate has no data: the baseline was not measured."
    )


def test_axis__zero_is_no_worsening_and_one_the_limit() -> None:
    ratio = verdict(LATENCY, 60, baseline=arm(100, over=4), candidate=arm(100, over=4)).axis
    assert ratio.estimate == pytest.approx(0.0)
    beyond = verdict(LATENCY, 30, baseline=arm(100, over=4), candidate=arm(100, over=5)).axis
    assert beyond.estimate == pytest.approx(1.0)
    worse = verdict(QUALITY, 5, pairs=[(0.9, 0.8)]).axis
    assert worse.estimate == pytest.approx(2.0)
    difference = verdict(ERRORS, 60, baseline=arm(100, 1), candidate=arm(100, 1)).axis
    assert difference.low is not None
    assert difference.high is not None
    assert difference.low < 0 < difference.high <= 1
