"""Every class of outcome can be judged: refusals, departures, and completions that say nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rollouts.domain.gates.family import GatesState
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.gates.verdict import GateVerdict, Verdict
from rollouts.domain.record.intervals import ArmCounts, Completions, Interval
from tests.rollouts.domain.gates.helpers import (
    ABANDONED,
    ERRORS,
    LATENCY,
    REFUSED,
    TRUNCATED,
    arm,
    counted,
    feed,
    interval,
    policy,
)


def after(times: int, *gates: dict[str, Any], **what: Any) -> GatesState:
    return feed(GatesState.initial(policy(*gates)), times, **what)


def first(state: GatesState) -> GateVerdict:
    return state.assess().verdicts[0]


# --- refused ------------------------------------------------------------------------------------------------------


def test_refused__half_of_the_candidates_users__rolls_back_and_says_so() -> None:
    quiet = {"fast_kill": {"enabled": False}}
    state = feed(
        GatesState.initial(policy(REFUSED, **quiet)),
        3,
        baseline=counted(100),
        candidate=counted(100, refused=47),
    )
    family = state.assess()
    assert family.rollback
    assert "47% of the candidate's requests were refused by its engine" in family.reason
    assert "0% of the baseline's" in family.reason


def test_refused__clients_that_are_refused_by_both_arms_alike__passes() -> None:
    state = after(60, REFUSED, baseline=counted(100, refused=30), candidate=counted(100, refused=30))
    assert not state.assess().rollback
    assert first(after(60, REFUSED, baseline=counted(100), candidate=counted(100))).verdict is Verdict.PASS


def test_refused__too_many_requests__is_a_refusal_of_the_engine() -> None:
    state = after(5, REFUSED, baseline=counted(100), candidate=counted(100, rate=20))
    assert state.assess().rollback


def test_refused__by_the_gateway_itself__says_nothing_of_the_candidate() -> None:
    state = after(5, REFUSED, baseline=counted(100), candidate=counted(100, gateway=60))
    assert not state.assess().rollback


def test_refused__answers_that_take_long_on_the_candidate__are_in_the_denominator_at_once() -> None:
    """By ends the candidate would have 10 of 10 refused: its answers are still running."""
    slow = counted(100, refused=10, running=90)
    state = after(3, REFUSED, baseline=counted(100, refused=10), candidate=slow)
    assert first(state).candidate == pytest.approx(0.1)
    assert not state.assess().rollback


def test_refused__more_ended_than_arrived_at_the_edge_of_an_interval__is_taken() -> None:
    many = counted(10, refused=12)
    assert first(after(1, REFUSED, baseline=many, candidate=many)).n_candidate == 12


def test_refused__evidence_from_before_outcomes_were_counted__is_no_data() -> None:
    state = after(5, REFUSED, baseline=arm(100), candidate=arm(100))
    verdict = first(state)
    assert verdict.verdict is Verdict.NO_DATA
    assert "it was not counted how requests ended" in verdict.sentence


# --- errors -------------------------------------------------------------------------------------------------------


def test_errors__answers_that_take_long_on_the_candidate__are_in_the_denominator_at_once() -> None:
    slow = counted(100, failed=1, running=99)
    state = after(3, ERRORS, baseline=counted(100, failed=1), candidate=slow)
    assert first(state).candidate == pytest.approx(0.01)


def test_errors__evidence_from_before_outcomes_were_counted__is_judged_by_ended_requests() -> None:
    state = after(1, ERRORS, baseline=arm(100, 1, arrived=150), candidate=arm(80, 8, arrived=150))
    assert (first(state).n_baseline, first(state).n_candidate) == (100, 80)


# --- abandoned ----------------------------------------------------------------------------------------------------


def test_abandoned__clients_that_leave_the_candidate__roll_it_back() -> None:
    state = after(8, ABANDONED, baseline=counted(100, abandoned=2), candidate=counted(100, abandoned=30))
    assert state.assess().rollback
    assert "30% of the candidate's requests were abandoned by their clients" in state.assess().reason


def test_abandoned__candidate_under_more_load__is_not_blamed() -> None:
    state = after(
        20, ABANDONED, baseline=counted(100, abandoned=2), candidate=counted(300, abandoned=90), share_bp=7500
    )
    assert state.assess().evidence == pytest.approx(1.0)
    assert "loads differ" in first(state).sentence


def test_abandoned__candidate_under_less_load__cannot_pass() -> None:
    state = after(
        200, ABANDONED, baseline=counted(300, abandoned=6), candidate=counted(100, abandoned=0), share_bp=2500
    )
    assert first(state).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("before", "now", "blames"), [(5000, 2500, False), (2500, 5000, True)])
def test_abandoned__share_just_moved__speaks_only_as_the_move_cannot_fake(
    before: int, now: int, *, blames: bool
) -> None:
    start = after(8, ABANDONED, baseline=counted(100), candidate=counted(100), share_bp=before)
    moved = feed(start, 1, baseline=counted(100), candidate=counted(100, abandoned=30), share_bp=now)
    assert (moved.log_evidence > start.log_evidence) is blames


def test_abandoned__a_minute_after_the_move__speaks_again() -> None:
    start = after(8, ABANDONED, baseline=counted(100), candidate=counted(100), share_bp=5000)
    settled = feed(start, 7, baseline=counted(100), candidate=counted(100), share_bp=2500)
    later = feed(settled, 1, baseline=counted(100), candidate=counted(100, abandoned=30), share_bp=2500)
    assert later.log_evidence > settled.log_evidence


# --- latency of those who left ------------------------------------------------------------------------------------


def test_latency__left_after_waiting_longer_than_the_slo__is_over_it() -> None:
    gone = counted(100, abandoned=20, left=20, left_over=20)
    state = after(12, LATENCY, baseline=counted(100, over=4), candidate=gone)
    assert first(state).candidate == pytest.approx(0.2)
    assert state.assess().rollback


def test_latency__left_earlier__is_neither_good_nor_bad() -> None:
    gone = counted(100, abandoned=20, left=20, left_over=0, over=4)
    assert first(after(1, LATENCY, baseline=counted(100, over=4), candidate=gone)).n_candidate == 80


def test_latency__more_of_the_candidates_requests_left_too_early_to_be_timed__may_not_pass() -> None:
    fast = {"baseline": counted(100, over=10, abandoned=2, left=2)}
    same = after(120, LATENCY, **fast, candidate=counted(100, over=10, abandoned=2, left=2))
    assert first(same).verdict is Verdict.PASS
    verdict = first(after(120, LATENCY, **fast, candidate=counted(100, over=5, abandoned=30, left=30)))
    assert verdict.verdict is Verdict.INCONCLUSIVE
    assert verdict.evidence_pass > 20
    assert (
        "30% of the candidate's requests were abandoned before they could be timed, and 2% of"
        in verdict.sentence
    )


# --- completions --------------------------------------------------------------------------------------------------


def test_truncated__more_answers_are_cut_off__rolls_back() -> None:
    state = after(
        30,
        TRUNCATED,
        baseline=counted(100, completions=Completions(100, truncated=5)),
        candidate=counted(100, completions=Completions(100, truncated=30)),
    )
    assert state.assess().rollback
    assert "30% of the candidate's completions were cut off at their length limit" in state.assess().reason


def test_truncated__engine_does_not_say__is_no_data_and_never_a_pass() -> None:
    state = after(90, TRUNCATED, baseline=counted(100, completions=Completions(100)), candidate=counted(100))
    assert first(state).verdict is Verdict.NO_DATA
    assert "the engine of the candidate does not say" in first(state).sentence


def burst(how: str) -> ArmCounts:
    """60 of 100 requests end so."""
    ends: dict[str, Any] = {how: 60}
    return counted(100, **ends)


UNTOLD = {"missing": {"departures": "of the baseline, nobody can say who left"}}


def test_abandoned__nobody_can_say_who_left__has_no_data_and_says_why() -> None:
    verdict = first(
        after(60, ABANDONED, baseline=counted(100), candidate=counted(100, abandoned=30), **UNTOLD)
    )
    assert verdict.verdict is Verdict.NO_DATA
    assert "of the baseline, nobody can say who left" in verdict.sentence


def test_errors__nobody_can_say_who_left__are_judged() -> None:
    arms = {"baseline": counted(100), "candidate": counted(100)}
    assert first(after(60, ERRORS, **arms, **UNTOLD)).verdict is Verdict.PASS


# --- fast kill ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "said"),
    [("refused", "60% of the candidate's 100 requests were refused by its engine within 10 s"),
     ("abandoned", "60% of the candidate's 100 requests were abandoned by their clients within 10 s")],
)  # fmt: skip
def test_fast_kill__burst_on_the_candidate_only__kills_with_the_numbers(how: str, said: str) -> None:
    state = after(1, ERRORS, baseline=counted(100), candidate=burst(how))
    assert (state.assess().fast_kill or "").startswith(said)


@pytest.mark.parametrize(("how", "kills"), [("abandoned", False), ("refused", True)])
def test_fast_kill__nobody_can_say_who_left__is_by_what_is_known(how: str, kills: bool) -> None:
    state = after(1, ERRORS, baseline=counted(100), candidate=burst(how), **UNTOLD)
    assert (state.assess().fast_kill is not None) is kills


@pytest.mark.parametrize(
    ("how", "baseline"),
    [("refused", "refused"), ("abandoned", "abandoned"), ("refused", "failed"), ("abandoned", "failed")],
)
def test_fast_kill__baseline_is_no_better__kills_nothing(how: str, baseline: str) -> None:
    bad = {"baseline": burst(baseline), "candidate": burst(how)}
    assert after(1, ERRORS, **bad).assess().fast_kill is None


@pytest.mark.parametrize("how", ["refused", "abandoned"])
def test_fast_kill__no_baseline_to_tell_whose_doing_it_is__kills_nothing(how: str) -> None:
    whole = {"candidate": burst(how), "share_bp": 10_000}
    assert after(1, ERRORS, **whole).assess().fast_kill is None


# --- kept and read again ------------------------------------------------------------------------------------------


def test_interval__with_outcomes__to_json_and_back_is_the_same() -> None:
    made = interval(
        3,
        baseline=counted(
            50, refused=3, abandoned=4, left=2, left_over=1, completions=Completions(40, 1, 2, 3, 9)
        ),
        candidate=arm(10, 1),
    )
    assert Interval.from_json(json.loads(json.dumps(made.to_json()))) == made


def test_interval__without_outcomes__has_the_bytes_of_an_old_one() -> None:
    data = interval(1, candidate=arm(10)).to_json()["arms"]["candidate"]
    assert "outcomes" not in data
    assert "completions" not in data
    assert "left" not in data["latency"]["ttft"]


def test_gates_state__to_json_and_back__goes_on_the_same() -> None:
    gates = (ABANDONED, LATENCY, REFUSED)
    what = {"baseline": counted(100, abandoned=2, left=2), "candidate": counted(100, abandoned=9, left=5)}
    state = after(7, *gates, **what, share_bp=2500)
    again = GatesState.from_json(json.loads(json.dumps(state.to_json())))
    assert feed(again, 3, **what) == feed(state, 3, **what)


def test_gates_state__of_an_earlier_version__is_read() -> None:
    """Of old evidence a state has not a key that was not in it then."""
    data = after(1, LATENCY, baseline=arm(100, 1), candidate=arm(100, 5)).to_json()
    assert "shares" not in data
    assert "outage" not in data
    assert "censoring" not in data["tracks"][0]
    assert data["window"] == {"rows": [[10.0, 100, 5, 100, 1]]}
    again = GatesState.from_json(json.loads(json.dumps(data)))
    assert again.window.candidate.share_of("errors") == (100, 0.05)
    feed(again, 1, baseline=counted(100), candidate=counted(100))


def test_policy__of_an_earlier_version__keeps_its_bytes() -> None:
    made = policy(ERRORS)
    assert made.baseline_outage_share is None
    assert "baseline_outage_share" not in made.to_json()
    assert GatePolicy.from_json(made.to_json()) == made


def test_fast_kill__candidate_lost_share_and_those_who_leave_are_of_before__kills_nothing() -> None:
    """Of 100 requests 9 give up after 20 s in both arms; then the candidate has a tenth of the requests it had."""
    state = GatesState.initial(policy(ERRORS, baseline_outage_share=0.2))
    state = feed(state, 6, baseline=counted(100, abandoned=9), candidate=counted(100, abandoned=9))
    moved = {"share_bp": 500, "baseline": counted(190, abandoned=9), "candidate": counted(10, abandoned=9)}
    for _ in range(2):
        state = feed(state, 1, **moved)
        assert state.assess().fast_kill is None
    settled = feed(state, 6, **{**moved, "candidate": counted(10, abandoned=1)})
    assert settled.assess().fast_kill is None
    lasting = feed(state, 6, **moved)
    assert lasting.assess().fast_kill is not None


def test_arm_counts__refused_and_abandoned__are_no_exposure_and_no_answers_to_rate() -> None:
    made = counted(100, refused=20, gateway=5, failed=3, fallback=2, abandoned=10, running=4)
    assert (made.exposure, made.ratable) == (56, 56)


def test_arm_counts__of_an_earlier_version__exposure_and_answers_are_as_they_were() -> None:
    made = arm(100, 7)
    assert (made.exposure, made.ratable) == (100, 93)
