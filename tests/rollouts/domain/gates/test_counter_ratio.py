"""A gate on two counters of a team's own: judged like errors, and silent wherever nothing was counted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.gates.family import GatesState
from rollouts.domain.gates.plan_forecast import plan_forecast
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.gates.reading import Circumstances, Counts, Nothing, read
from rollouts.domain.gates.verdict import Verdict
from rollouts.domain.record.asked import AskedCounts
from rollouts.domain.record.intervals import ArmCounts, Interval
from tests.rollouts.domain.gates.helpers import ERRORS, feed, interval, policy

TOOLS: dict[str, Any] = {
    "key": "tools", "label": "Tool calls", "kind": "counter_ratio", "delta": 0.02, "weight": 1.0,
    "bad_query": 'bad{pod=~"{{pods}}"}', "all_query": 'all{pod=~"{{pods}}"}',
}  # fmt: skip
POLICY = policy(TOOLS)
(GATE,) = POLICY.gates
assert GATE.counters is not None
PAIR = GATE.counters.digest


def arm(bad: int, total: int, *, why: str = "", ready: float = 1.0) -> ArmCounts:
    counts = AskedCounts(why=why) if why else AskedCounts(bad, total)
    return ArmCounts(requests=50, errors=0, arrived=50, ready=ready, asked={PAIR: counts})


def said(baseline: ArmCounts | None, candidate: ArmCounts | None, gate: Any = GATE) -> object:
    return read(gate, interval(0, baseline=baseline, candidate=candidate), "candidate", Circumstances())


def verdict(state: GatesState) -> Any:
    (found,) = state.assess().verdicts
    return found


def test_read__both_counted__are_trials_and_events_both_ways() -> None:
    assert said(arm(2, 100), arm(3, 40)) == Counts(40, 3, 100, 2)


def test_read__load_of_the_arms_differs__is_no_matter() -> None:
    found = said(arm(2, 100, ready=4.0), arm(3, 40, ready=1.0))
    assert isinstance(found, Counts)
    assert (found.directions.may_fail, found.directions.may_pass) == (True, True)


@pytest.mark.parametrize(
    ("baseline", "candidate", "reason"),
    [
        (arm(2, 100), arm(0, 0, why="no series"), "candidate: no series"),
        (arm(0, 0, why="no series"), arm(3, 40), "baseline: no series"),
        (arm(2, 100), ArmCounts(50, 0, 50, 1.0), "candidate: its counters were not asked for"),
        (arm(2, 100), arm(0, 0), "no event of the candidate was counted"),
        (arm(0, 0), arm(3, 40), "no event of the baseline was counted"),
    ],
)
def test_read__anything_missing__is_nothing_and_says_whose(
    baseline: ArmCounts, candidate: ArmCounts, reason: str
) -> None:
    assert said(baseline, candidate) == Nothing(reason)


def test_read__absolute_limit__needs_no_baseline() -> None:
    (gate,) = policy({**TOOLS, "ratio": 0, "delta": 0.05}).gates
    assert said(arm(0, 0, why="no series"), arm(3, 40), gate) == Counts(40, 3, 0, 0)


def test_read__counts_of_other_expressions__are_not_taken_for_its_own() -> None:
    (gate,) = policy({**TOOLS, "bad_query": 'worse{pod=~"{{pods}}"}'}).gates
    assert said(arm(2, 100), arm(3, 40), gate) == Nothing("candidate: its counters were not asked for")


def test_read__impossible_counts__are_refused_with_the_place() -> None:
    with pytest.raises(InvalidInput) as refused:
        said(arm(2, 100), arm(41, 40))
    assert refused.value.field == f"arms.candidate.asked.{PAIR}.bad"


def test_verdict__worse_share__fails_with_both_shares() -> None:
    state = feed(GatesState.initial(POLICY), 60, baseline=arm(1, 50), candidate=arm(10, 50))
    found = verdict(state)
    assert found.verdict is Verdict.FAIL
    assert found.sentence.startswith(
        "Tool calls is worse: 20% of the candidate's events were bad, against 2% of the baseline's"
    )
    assert state.assess().rollback


def test_verdict__same_share__passes_in_the_end() -> None:
    state = feed(GatesState.initial(POLICY), 400, baseline=arm(1, 50), candidate=arm(1, 50))
    assert verdict(state).verdict is Verdict.PASS


def test_verdict__only_absent__is_no_data_however_long() -> None:
    state = feed(GatesState.initial(POLICY), 300, baseline=arm(1, 50), candidate=arm(0, 0, why="no series"))
    found = verdict(state)
    assert found.verdict is Verdict.NO_DATA
    assert found.sentence == "Tool calls has no data: candidate: no series."
    assert not state.assess().all_required_pass


def test_verdict__goes_silent_after_it_passed__is_no_data() -> None:
    state = feed(GatesState.initial(POLICY), 400, baseline=arm(1, 50), candidate=arm(1, 50))
    state = feed(state, 7, baseline=arm(1, 50), candidate=arm(0, 0, why="no series"))
    assert verdict(state).verdict is Verdict.NO_DATA


def test_evidence__events_that_come_in_bursts__counts_for_less_than_that_of_errors() -> None:
    """One request may count ten events, all of them bad: these are not ten proofs."""
    errors = ArmCounts(50, 4, 50, 1.0)
    few = ArmCounts(50, 1, 50, 1.0)
    plain = feed(GatesState.initial(policy(ERRORS)), 10, baseline=few, candidate=errors)
    own = feed(GatesState.initial(POLICY), 10, baseline=arm(1, 50), candidate=arm(4, 50))
    assert 0 < own.log_evidence < plain.log_evidence


def test_state__kept_as_json__goes_on_as_it_was() -> None:
    state = feed(GatesState.initial(POLICY), 5, baseline=arm(1, 50), candidate=arm(2, 50))
    again = GatesState.from_json(json.loads(json.dumps(state.to_json())))
    assert (
        again.update(interval(5, baseline=arm(1, 50), candidate=arm(2, 50))).to_json()
        == state.update(interval(5, baseline=arm(1, 50), candidate=arm(2, 50))).to_json()
    )


def test_interval__kept_as_json__comes_back_and_one_without_keeps_its_bytes() -> None:
    made = interval(0, baseline=arm(1, 50), candidate=arm(0, 0, why="no series"))
    assert Interval.from_json(json.loads(json.dumps(made.to_json()))) == made
    assert "asked" not in ArmCounts(50, 0, 50, 1.0).to_json()


def test_forecast__unequal_replicas__do_not_matter_to_it() -> None:
    found = [
        plan_forecast(
            policy=POLICY,
            gate=GATE,
            requests_per_second=50,
            base_rate=0.02,
            steps=((5_000, 3_600.0),),
            ready=ready,
        ).requests_to_pass
        for ready in ((1.0, 1.0), (4.0, 1.0))
    ]
    assert found[0] is not None
    assert found[0] == found[1]


def test_policy__of_today_and_before__keeps_its_bytes() -> None:
    assert "bad_query" not in policy(ERRORS).to_json()["gates"][0]
    assert GatePolicy.from_json(POLICY.to_json()) == POLICY
