from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.gates.family import GatesState
from rollouts.domain.gates.fastkill import WorkloadFacts
from rollouts.domain.gates.verdict import FamilyVerdict, Verdict
from tests.rollouts.domain.gates.helpers import ERRORS, LATENCY, QUALITY, THUMBS, arm, feed, interval, policy

HEALTHY: dict[str, Any] = {"baseline": arm(100, 1, over=4), "candidate": arm(100, 1, over=4)}


def verdict_of(state: GatesState, key: str = "errors") -> Verdict:
    found = state.assess().verdict(key)
    assert found is not None
    return found.verdict


def test_gates_state__unchanged_candidate_at_half_the_traffic__passes_and_never_rolls_back() -> None:
    state = feed(GatesState.initial(policy(ERRORS)), 60, **HEALTHY)
    family = state.assess()
    assert family.verdicts[0].verdict is Verdict.PASS
    assert family.all_required_pass
    assert not family.rollback
    assert family.threshold == pytest.approx(20)
    assert family.budget == 0.05


def test_gates_state__worse_candidate__rolls_back_and_names_the_gate() -> None:
    state = feed(
        GatesState.initial(policy(ERRORS, LATENCY)),
        20,
        baseline=arm(100, 1, over=4),
        candidate=arm(100, 8, over=4),
    )
    family = state.assess()
    assert family.rollback
    assert family.cause is not None
    assert family.cause.key == "errors"
    assert family.cause.verdict is Verdict.FAIL
    assert family.evidence >= family.threshold
    assert not family.all_required_pass


def test_gates_state__evidence_of_several_gates__adds_up_by_weight() -> None:
    state = feed(GatesState.initial(policy(ERRORS, THUMBS)), 3, baseline=arm(100, 1), candidate=arm(100, 4))
    expected = sum(
        gate.weight * math.exp(track.failing.log_e)
        for gate, track in zip(state.policy.gates, state.tested, strict=True)
    )
    assert state.assess().evidence == pytest.approx(expected)


def test_gates_state__fail_proven_then_recovered__stays_rolled_back() -> None:
    state = feed(GatesState.initial(policy(ERRORS)), 10, baseline=arm(100, 1), candidate=arm(100, 15))
    state = feed(state, 200, **HEALTHY)
    assert state.assess().rollback
    assert verdict_of(state) is Verdict.FAIL


def test_gates_state__pass_then_late_regression__fail_wins() -> None:
    state = feed(GatesState.initial(policy(ERRORS)), 90, **HEALTHY)
    assert verdict_of(state) is Verdict.PASS
    state = feed(state, 12, baseline=arm(100, 1), candidate=arm(100, 12))
    family = state.assess()
    assert family.rollback
    assert family.cause is not None
    assert "in the last " in family.cause.sentence
    assert family.cause.change is not None
    assert family.cause.change > 0.08


def test_gates_state__pass_evidence_gone__pass_is_withdrawn() -> None:
    tolerant = {**ERRORS, "mode": "tolerant", "delta": 0.02}
    state = feed(GatesState.initial(policy(tolerant)), 12, **HEALTHY)
    assert verdict_of(state) is Verdict.PASS
    state = feed(state, 30, baseline=arm(100, 1), candidate=arm(100, 3))
    assert verdict_of(state) in (Verdict.INCONCLUSIVE, Verdict.PASS)
    state = feed(state, 12, baseline=arm(100, 1), candidate=arm(100, 5))
    assert state.tested[0].passing.log_e < 0
    assert verdict_of(state) is not Verdict.PASS


def test_gates_state__share_below_a_quarter__cannot_pass_but_can_fail() -> None:
    small = {"baseline": arm(900, 9), "candidate": arm(100, 1), "share_bp": 1000}
    state = feed(GatesState.initial(policy(ERRORS)), 100, **small)
    assert verdict_of(state) is Verdict.INCONCLUSIVE
    assert (
        "t can pass only while the candidate's share is 25% or more, and now it is 10%"
        in state.assess().reason
    )
    worse = feed(
        GatesState.initial(policy(ERRORS)), 20, baseline=arm(900, 9), candidate=arm(100, 6), share_bp=1000
    )
    assert worse.assess().rollback


def test_gates_state__paired_probes__pass_whatever_the_share() -> None:
    state = feed(GatesState.initial(policy(QUALITY)), 40, pairs=[(0.9, 0.9)] * 5, share_bp=500)
    assert verdict_of(state, "quality") is Verdict.PASS


def test_gates_state__worse_answers__fail_by_pairs() -> None:
    state = feed(GatesState.initial(policy(QUALITY)), 30, pairs=[(0.9, 0.6), (0.8, 0.7)])
    assert state.assess().cause is not None
    assert verdict_of(state, "quality") is Verdict.FAIL


@pytest.mark.parametrize("gate", [ERRORS, LATENCY, QUALITY, THUMBS])
def test_gates_state__nothing_measured__no_data_and_never_a_pass(gate: dict[str, Any]) -> None:
    state = GatesState.initial(policy(gate))
    assert state.assess().verdicts[0].verdict is Verdict.NO_DATA
    state = feed(state, 200)
    family = state.assess()
    assert family.verdicts[0].verdict is Verdict.NO_DATA
    assert not family.all_required_pass
    assert not family.rollback
    assert family.verdicts[0].change is None


def test_gates_state__baseline_missing__no_data_with_the_reason_given() -> None:
    state = feed(
        GatesState.initial(policy(ERRORS)),
        10,
        candidate=arm(100, 50),
        missing={"baseline": "router restarted"},
    )
    assert verdict_of(state) is Verdict.NO_DATA
    assert "baseline: router restarted" in state.assess().reason
    assert state.tested[0].failing.log_e == 0.0


def test_gates_state__data_stops_after_a_pass__no_data_not_pass() -> None:
    state = feed(GatesState.initial(policy(ERRORS)), 60, **HEALTHY)
    state = feed(state, 5, missing={"candidate": "counters began again"})
    assert verdict_of(state) is Verdict.PASS
    state = feed(state, 1, missing={"candidate": "counters began again"})
    assert verdict_of(state) is Verdict.NO_DATA
    assert not state.assess().all_required_pass
    assert verdict_of(feed(state, 1, **HEALTHY)) is Verdict.PASS


def test_gates_state__source_broken__error_at_once_and_only_for_its_gates() -> None:
    state = feed(GatesState.initial(policy(ERRORS, QUALITY)), 60, **HEALTHY, pairs=[(0.9, 0.9)])
    state = feed(state, 1, broken={"router": "connection refused"}, pairs=[(0.9, 0.9)])
    assert verdict_of(state) is Verdict.ERROR
    assert verdict_of(state, "quality") is not Verdict.ERROR
    assert "Error rate cannot be measured: router: connection refused." in state.assess().reason


def test_gates_state__too_few_requests__no_data_but_fail_needs_no_minimum() -> None:
    state = feed(GatesState.initial(policy({**ERRORS, "min_exposure": 500})), 2, **HEALTHY)
    assert verdict_of(state) is Verdict.NO_DATA
    assert "it needs 500 and only 200 were counted" in state.assess().reason
    worse = feed(
        GatesState.initial(policy({**ERRORS, "min_exposure": 5000})),
        5,
        baseline=arm(100, 0),
        candidate=arm(100, 50),
    )
    assert verdict_of(worse) is Verdict.FAIL


def test_gates_state__candidate_under_less_load__may_fail_but_not_pass() -> None:
    uneven = {"baseline": arm(150, over=30), "candidate": arm(50, over=2), "share_bp": 2500}
    state = feed(GatesState.initial(policy(LATENCY)), 200, **uneven)
    assert verdict_of(state, "ttft") is Verdict.INCONCLUSIVE
    assert "loads differ" in state.assess().reason
    assert state.assess().verdicts[0].forecast_requests is None
    slow = feed(
        GatesState.initial(policy(LATENCY)),
        60,
        baseline=arm(150, over=6),
        candidate=arm(50, over=20),
        share_bp=2500,
    )
    assert verdict_of(slow, "ttft") is Verdict.FAIL


def test_gates_state__candidate_under_more_load__may_pass_but_not_fail() -> None:
    slow = {"baseline": arm(90, over=2, ready=3), "candidate": arm(90, over=30, ready=1)}
    state = feed(GatesState.initial(policy(LATENCY)), 200, **slow)
    assert verdict_of(state, "ttft") is not Verdict.FAIL
    assert "The loads differ" in state.assess().verdicts[0].finding
    fast = {"baseline": arm(90, over=20, ready=3), "candidate": arm(90, over=5, ready=1)}
    assert verdict_of(feed(GatesState.initial(policy(LATENCY)), 200, **fast), "ttft") is Verdict.PASS


def test_gates_state__slo_is_no_edge_of_the_histogram__no_data_says_so() -> None:
    state = feed(GatesState.initial(policy({**LATENCY, "slo_seconds": 0.3})), 3, **HEALTHY)
    assert "300 ms is not an edge" in state.assess().reason


def test_gates_state__warm_up__keeps_first_requests_out_of_latency_only() -> None:
    state = feed(GatesState.initial(policy(ERRORS, LATENCY, warm_up_requests=250)), 3, **HEALTHY)
    assert state.tested[0].totals.n_candidate == 300
    assert state.tested[1].totals.n_candidate == 0
    assert feed(state, 1, **HEALTHY).tested[1].totals.n_candidate == 100


def test_gates_state__not_counted_by_unit__statistics_decide_nothing_but_the_fast_kill_works() -> None:
    start = GatesState.initial(policy(ERRORS), counted_by_unit=False)
    assert verdict_of(feed(start, 60, **HEALTHY)) is Verdict.INCONCLUSIVE
    family = feed(start, 20, baseline=arm(100, 1), candidate=arm(100, 20)).assess()
    assert not family.rollback
    assert "single requests are counted" in family.verdicts[0].finding
    assert feed(start, 3, baseline=arm(100, 1), candidate=arm(100, 80)).assess().fast_kill is not None


def test_gates_state__absolute_limit__warns_when_the_baseline_breaks_it_too() -> None:
    absolute = {**ERRORS, "ratio": 0, "delta": 0.01, "mode": "tolerant"}
    state = feed(GatesState.initial(policy(absolute)), 3, baseline=arm(100, 4), candidate=arm(100, 1))
    assert state.assess().verdicts[0].finding == "The baseline itself is over this limit: 4%."


def test_gates_state__candidates_rated_more_often__is_a_finding_not_a_verdict() -> None:
    rated = {
        "baseline": arm(answers=100, thumbs_down=5, ratings=10),
        "candidate": arm(answers=100, thumbs_down=5, ratings=30),
    }
    found = feed(GatesState.initial(policy(THUMBS)), 20, **rated).assess().verdicts[0]
    assert "rated more often than the other" in found.finding
    assert found.verdict is not Verdict.FAIL


def test_gates_state__restarts__come_by_exposure_and_not_by_silence() -> None:
    state = feed(GatesState.initial(policy(ERRORS, restart_every_seconds=300)), 100, **HEALTHY)
    assert state.tested[0].failing.evidence.starts == 4
    silent = feed(state, 100)
    assert silent.tested[0].failing.evidence.starts == 4
    assert silent.exposure_seconds == 1000


def test_update__interval_given_twice__refused() -> None:
    state = feed(GatesState.initial(policy(ERRORS)), 2, **HEALTHY)
    with pytest.raises(InvalidInput) as refused:
        state.update(interval(1, **HEALTHY))
    assert refused.value.field == "index"


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"candidate": arm(5, 6)}, "arms.candidate.errors"),
        ({"candidate": arm(5, over=6)}, "arms.candidate.latency.ttft.over"),
        ({"candidate": arm(5, answers=2, thumbs_down=3)}, "arms.candidate.thumbs_down"),
        ({"pairs": [(0.5, 1.5)]}, "score_candidate"),
        ({"share_bp": 10_001}, "share_bp"),
        ({"seconds": 0.0}, "seconds"),
    ],
)
def test_update__impossible_interval__refused_with_the_field(bad: dict[str, Any], field: str) -> None:
    state = GatesState.initial(policy(ERRORS, LATENCY, QUALITY, THUMBS))
    with pytest.raises(InvalidInput) as refused:
        state.update(interval(0, **{**HEALTHY, **bad}))
    assert refused.value.field == field


def test_gates_state__json__round_trip_is_identical_and_goes_on_identically() -> None:
    rng = np.random.default_rng(5)
    state = GatesState.initial(policy(ERRORS, LATENCY, QUALITY, THUMBS))
    for number in range(150):
        counts = {
            name: arm(
                n,
                int(rng.binomial(n, 0.01)),
                over=int(rng.binomial(n, 0.05)),
                answers=n,
                thumbs_down=int(rng.binomial(n, 0.1)),
                ratings=n,
            )
            for name, n in (("baseline", 90), ("candidate", 110))
        }
        what: dict[str, Any] = counts if number % 7 else {"missing": {"baseline": "scrape failed"}}
        state = state.update(interval(number, pairs=[(float(rng.random()), float(rng.random()))], **what))
        if number % 50 == 0:
            text = json.dumps(state.to_json(), allow_nan=False)
            again = GatesState.from_json(json.loads(text))
            assert again == state
            assert json.dumps(again.to_json()) == text
            state = again
    family = state.assess()
    assert FamilyVerdict.from_json(json.loads(json.dumps(family.to_json(), allow_nan=False))) == family


def test_gates_state__a_day_of_intervals__stays_small() -> None:
    state = feed(GatesState.initial(policy(ERRORS)), 400, **HEALTHY)
    early = len(json.dumps(state.to_json()))
    state = feed(state, 1600, **HEALTHY)
    assert len(json.dumps(state.to_json())) < 1.3 * early < 10_000


def test_fast_kill__burst_on_the_candidate_only__kills_with_the_numbers() -> None:
    family = feed(GatesState.initial(policy(ERRORS)), 1, baseline=arm(95, 1), candidate=arm(25, 20)).assess()
    assert family.rollback
    assert family.fast_kill == (
        "80% of the candidate's 25 requests failed within 10 s, against 1.1% of the baseline's 95."
    )
    assert family.reason.startswith("Fast kill: 80%")


def test_fast_kill__shared_incident__kills_nothing() -> None:
    family = feed(GatesState.initial(policy(ERRORS)), 3, baseline=arm(95, 80), candidate=arm(25, 20)).assess()
    assert family.fast_kill is None


def test_fast_kill__whole_traffic_on_the_candidate__kills_without_a_baseline() -> None:
    full = {"baseline": arm(0), "candidate": arm(50, 40), "share_bp": 10_000}
    assert feed(GatesState.initial(policy(ERRORS)), 1, **full).assess().fast_kill is not None
    careful = policy(ERRORS, fast_kill={"without_baseline": False})
    assert feed(GatesState.initial(careful), 1, **full).assess().fast_kill is None


def test_fast_kill__old_burst__leaves_the_window() -> None:
    state = feed(GatesState.initial(policy(ERRORS)), 1, baseline=arm(95, 1), candidate=arm(25, 20))
    assert feed(state, 3, **HEALTHY).assess().fast_kill is None


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (WorkloadFacts(candidate_oom_kills=1), "ran out of memory and was killed once"),
        (WorkloadFacts(candidate_restarts=3), "crashed and restarted 3 times"),
        (WorkloadFacts(candidate_restarts=3, baseline_restarts=4), None),
        (WorkloadFacts(candidate_oom_kills=1, baseline_oom_kills=2), None),
        (WorkloadFacts(candidate_restarts=2), None),
    ],
)
def test_fast_kill__engines_that_die__needs_the_candidate_bad_and_the_baseline_not(
    facts: WorkloadFacts, said: str | None
) -> None:
    kill = GatesState.initial(policy(ERRORS)).assess(workload=facts).fast_kill
    assert kill is None if said is None else said in (kill or "")
