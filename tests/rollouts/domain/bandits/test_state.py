from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.bandits import BanditState
from rollouts.domain.gates.fastkill import WorkloadFacts
from rollouts.domain.record.intervals import ArmCounts
from tests.rollouts.domain.bandits.helpers import THREE, bandit, counts, feed, rng_of, row, simulate
from tests.rollouts.domain.gates.helpers import ERRORS, LATENCY

EVEN = {name: counts(40, 12) for name in THREE}
ROWS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            name: st.integers(0, 200).flatmap(lambda n: st.builds(counts, st.just(n), st.integers(0, n)))
            for name in THREE
        },
    ),
    max_size=8,
)


def wanted(state: BanditState) -> dict[str, int]:
    return dict(zip(state.arms, state.wanted, strict=True))


# --- burn-in and reweights ---


def test_bandit__new__equal_shares() -> None:
    state = bandit()
    assert wanted(state) == {"baseline": 3334, "candidate": 3333, "candidate-2": 3333}
    assert state.assess().burn_in


def test_burn_in__one_arm_short_of_answers__shares_stay_equal() -> None:
    state = feed(bandit(burn_in=100), 5, {**EVEN, "candidate-2": counts(19, 6)})
    assert wanted(state) == {"baseline": 3334, "candidate": 3333, "candidate-2": 3333}
    assert state.burn_in


def test_burn_in__every_arm_has_enough__reweighs_at_once() -> None:
    arms = {"baseline": counts(100, 40), "candidate": counts(100, 20), "candidate-2": counts(100, 30)}
    state = feed(bandit(burn_in=100), 1, arms)
    assert not state.burn_in
    assert state.reweight.due
    assert wanted(state)["candidate"] > wanted(state)["candidate-2"]


def test_reweight__within_its_period__weights_wait() -> None:
    arms = {"baseline": counts(100, 25), "candidate": counts(100, 20), "candidate-2": counts(100, 30)}
    first = feed(bandit(burn_in=100, reweight_seconds=30), 1, arms)
    state = feed(first, 2, {**arms, "candidate-2": counts(100, 18)})
    assert state.wanted == first.wanted
    assert not state.reweight.due
    later = feed(state, 1, arms)
    assert later.reweight.due
    assert wanted(later)["candidate-2"] > wanted(first)["candidate-2"]


def test_reweight__change_below_the_least__kept_and_said() -> None:
    state = feed(bandit(burn_in=10, reweight_seconds=10, min_change_bp=5000), 3, EVEN)
    assert state.reweight.skipped
    assert state.assess().reweight.sentence.startswith("Weights kept: the largest change would be ")
    assert wanted(state)["candidate"] == 3333


def test_reweight__no_new_rewards__kept_as_no_data_is_no_reason_to_move() -> None:
    start = feed(bandit(burn_in=10, reweight_seconds=10), 2, EVEN)
    state = feed(start, 1, {name: counts(0, requests=40) for name in THREE})
    assert state.wanted == start.wanted
    assert state.beliefs == start.beliefs
    verdict = state.assess().reweight
    assert (verdict.due, verdict.skipped) == (True, True)
    assert "no answer was scored since they were last recalculated" in verdict.sentence


def test_reweight__nothing_measured__no_exposure_no_clock() -> None:
    start = feed(bandit(burn_in=10, reweight_seconds=60), 1, EVEN)
    state = feed(start, 20, {})
    assert state.since_reweight == start.since_reweight
    assert not state.reweight.due


def test_rewards__that_come_late__count_with_the_interval_they_are_booked_to() -> None:
    """Requests of now beside answers of before: only answers earn, at the shares they were assigned under."""
    served = {name: counts(0, requests=40) for name in THREE}
    state = feed(bandit(burn_in=10), 6, served)
    assert state.learner.scored("candidate") == 0
    late = {name: replace(counts(40, 12), requests=7, errors=0) for name in THREE}
    equal = {"baseline": 3334, "candidate": 3333, "candidate-2": 3333}
    moved = {"baseline": 1000, "candidate": 8500, "candidate-2": 500}
    state = feed(state, 1, late, shares=moved, answer_shares=equal)
    assert state.learner.scored("candidate") == 40
    assert state.ipw == feed(bandit(), 1, late, shares=equal).ipw


# --- leaving ---


def test_elimination__by_evidence__redistributes_at_once_whatever_the_clock() -> None:
    arms = {"baseline": counts(300, 90), "candidate": counts(300, 70), "candidate-2": counts(300, 200)}
    state = feed(bandit(burn_in=100, reweight_seconds=10_000), 1, arms)
    assert wanted(state)["candidate-2"] == 0
    assert state.reweight.left
    verdict = state.assess().arm("candidate-2")
    assert (verdict.state, verdict.cause, verdict.at_index) == ("eliminated", "evidence", 0)


def test_elimination__of_the_baseline__keeps_its_share_as_comparator_for_good() -> None:
    state = simulate(
        bandit(burn_in=100),
        100,
        {"baseline": 0.6, "candidate": 0.8, "candidate-2": 0.8},
        until_winner=False,
        seed=3,
    )
    verdict = state.assess()
    assert verdict.arm("baseline").state == "eliminated"
    assert verdict.wanted["baseline"] == 1000
    assert "keeps 10% of the traffic, so that the gates can compare" in verdict.arm("baseline").sentence
    assert state.learner.scored("baseline") > 300


def test_guardrail__errors_of_one_arm__dropped_with_its_cause_and_sentence() -> None:
    arms = {"baseline": counts(40, 12), "candidate": counts(40, 2, errors=6), "candidate-2": counts(40, 12)}
    state = feed(bandit(burn_in=10_000), 12, arms)
    verdict = state.assess()
    bad = verdict.arm("candidate")
    assert (bad.state, bad.cause) == ("dropped", "guardrail")
    assert bad.sentence.startswith("Dropped by its guardrail: Error rate is worse: ")
    assert bad.at_index is not None
    assert verdict.wanted == {"baseline": 5000, "candidate": 0, "candidate-2": 5000}


def test_guardrail__of_two_candidates__holds_half_the_false_alarm_budget_each() -> None:
    assert bandit().gates["candidate"].policy.alpha == 0.025
    assert bandit(("baseline", "candidate")).gates["candidate"].policy.alpha == 0.05


def test_guardrail__an_arm_that_left__keeps_its_last_state() -> None:
    arms = {"baseline": counts(40, 12), "candidate": counts(40, 2, errors=6), "candidate-2": counts(40, 12)}
    state = feed(bandit(burn_in=10_000), 12, arms)
    later = feed(state, 5, {**arms, "candidate": counts(40, 0)})
    assert later.gates["candidate"] == state.gates["candidate"]
    assert later.gates["candidate-2"] != state.gates["candidate-2"]


def test_fast_kill__burst_of_errors__drops_the_arm_in_that_interval() -> None:
    arms = {"baseline": counts(40), "candidate": counts(40, errors=40), "candidate-2": counts(40)}
    state = feed(bandit(), 1, arms)
    bad = state.assess().arm("candidate")
    assert (bad.state, bad.cause, bad.at_index) == ("dropped", "fast-kill", 0)
    assert "failed within" in bad.sentence


def test_fast_kill__of_an_engine__shown_as_dropped_and_its_share_goes_at_once() -> None:
    state = feed(bandit(burn_in=10), 2, EVEN)
    verdict = state.assess(workload={"candidate": WorkloadFacts(candidate_oom_kills=1)})
    bad = verdict.arm("candidate")
    assert (bad.state, bad.cause) == ("dropped", "workload")
    assert "ran out of memory" in bad.sentence
    assert verdict.wanted["candidate"] == 0
    assert sum(verdict.wanted.values()) == 10_000
    assert verdict.reweight.due
    assert verdict.survivors == ("baseline", "candidate-2")


def test_dropped__by_a_person_or_the_engine__said_which() -> None:
    state = feed(bandit(), 1, EVEN, dropped=("candidate",))
    state = feed(
        state, 1, EVEN, dropped=("candidate-2",), missing={"candidate-2": "the engine did not start"}
    )
    one, other = state.assess().arm("candidate"), state.assess().arm("candidate-2")
    assert (one.cause, one.sentence) == ("person", "Taken out of the race by a person.")
    assert (other.cause, other.sentence) == (
        "workload",
        "Dropped because of its engine: the engine did not start",
    )


def test_dropped__every_candidate__the_baseline_takes_all() -> None:
    state = feed(bandit(), 1, EVEN, dropped=("candidate", "candidate-2"))
    verdict = state.assess()
    assert verdict.wanted == {"baseline": 10_000, "candidate": 0, "candidate-2": 0}
    assert (verdict.winner, verdict.sole_survivor) == ("baseline", "baseline")
    assert "baseline stays" in verdict.sentence


def test_dropped__the_last_candidate_after_the_baseline_was_beaten__the_baseline_takes_all() -> None:
    arms = {"baseline": counts(300, 200), "candidate": counts(300, 10), "candidate-2": counts(300, 10)}
    state = feed(bandit(burn_in=100), 1, arms)
    assert state.learner.survivors == ("candidate", "candidate-2")
    verdict = feed(state, 1, {}, dropped=("candidate", "candidate-2")).assess()
    assert verdict.survivors == ()
    assert verdict.winner == "baseline"
    assert verdict.wanted["baseline"] == 10_000
    assert verdict.sentence.startswith("No candidate is left: ")


def test_promoted_by_a_person__late_ratings_say_it_is_worse__its_gates_go_on_watching() -> None:
    alone = {"baseline": 0, "candidate": 10_000, "candidate-2": 0}
    late = {"baseline": counts(100, 5, requests=0), "candidate": counts(100, 45)}
    halves = {"baseline": 5_000, "candidate": 5_000}
    state = feed(bandit(burn_in=100), 2, EVEN)
    state = feed(state, 10, late, dropped=("candidate-2",), shares=alone, answer_shares=halves)
    assert state.learner.survivors == ("baseline",)
    assert not state.assess().gates["candidate"].rollback
    state = feed(state, 10, {"candidate": counts(0, requests=100, errors=100)}, shares=alone)
    assert "failed within" in (state.assess().gates["candidate"].fast_kill or "")


# --- the stop rule ---


def test_winner__sole_survivor_before_its_gates_pass__waits() -> None:
    arms = {"baseline": counts(60, 30), "candidate": counts(60, 1), "candidate-2": counts(60, 30)}
    state = feed(bandit(burn_in=20, gates=(ERRORS, LATENCY)), 5, arms)
    verdict = state.assess()
    assert (verdict.sole_survivor, verdict.winner) == ("candidate", "")
    assert "it wins once its required gates pass" in verdict.sentence
    assert verdict.arm("candidate").gates_required == 2


def test_winner__sole_survivor_and_gates_pass__named_with_its_confidence() -> None:
    state = simulate(bandit(burn_in=100), 400, {"baseline": 0.6, "candidate": 0.7, "candidate-2": 0.85})
    verdict = state.assess(labels={"candidate-2": "v3"})
    assert verdict.winner == "candidate-2"
    assert verdict.sentence.startswith("v3 wins: it is the only arm left and all its required gates pass.")
    assert "In at most 5 of 100 rollouts (5%) the best arm is dropped by mistake." in verdict.sentence
    assert verdict.arm("candidate-2").gates_passed == 1
    assert verdict.tied == ()
    assert not state.reweight.due


def test_bad_arm__earns_most_but_fails_five_times_as_often__never_wins() -> None:
    state = simulate(
        bandit(burn_in=200),
        120,
        {"baseline": 0.70, "candidate": 0.72, "candidate-2": 0.80},
        errors={"baseline": 0.02, "candidate": 0.02, "candidate-2": 0.10},
    )
    verdict = state.assess()
    assert verdict.winner != "candidate-2"
    assert verdict.arm("candidate-2").cause == "guardrail"


# --- data in, data out ---


@settings(max_examples=20, deadline=None)
@given(ROWS, st.sampled_from([(), ("candidate",), ("candidate", "candidate-2")]))
def test_bandit__any_intervals__shares_floors_and_json_hold(
    rows: list[dict[str, ArmCounts]], dropped: tuple[str, ...]
) -> None:
    state = bandit(burn_in=20, reweight_seconds=10)
    for index, arms in enumerate(rows):
        state = state.update(row(index, arms, dropped=dropped if index == 3 else ()), rng_of(index))
    verdict = state.assess()
    assert sum(state.wanted) == 10_000
    assert state.wanted[0] >= 1000
    for name in THREE[1:]:
        racing = verdict.arm(name).state == "racing"
        assert verdict.wanted[name] >= 500 if racing else verdict.wanted[name] == 0
    text = json.dumps(state.to_json(), allow_nan=False)
    again = BanditState.from_json(json.loads(text))
    assert again == state
    assert json.dumps(again.to_json()) == text
    assert type(verdict).from_json(json.loads(json.dumps(verdict.to_json(), allow_nan=False))) == verdict


def test_bandit__same_intervals_and_seeds__same_bytes() -> None:
    rewards = {"baseline": 0.6, "candidate": 0.7, "candidate-2": 0.75}
    one, other = (simulate(bandit(burn_in=50), 60, rewards) for _ in range(2))
    assert json.dumps(one.to_json()) == json.dumps(other.to_json())


def test_bandit__ten_times_as_long__state_stays_as_large() -> None:
    short = simulate(bandit(burn_in=50, alpha=1e-6), 40, dict.fromkeys(THREE, 0.7), until_winner=False)
    long = simulate(short, 360, dict.fromkeys(THREE, 0.7), until_winner=False)
    assert len(json.dumps(long.to_json())) < 1.5 * len(json.dumps(short.to_json()))


@pytest.mark.parametrize(
    ("arms", "other", "field"),
    [
        ({"someone": counts(1)}, {}, "arms.someone"),
        ({"candidate": counts(3, 4)}, {}, "arms.candidate.thumbs_down"),
        ({"candidate": counts(-3)}, {}, "arms.candidate"),
        ({}, {"shares": {"someone": 1}}, "shares.someone"),
        ({}, {"shares": {"candidate": 10_001}}, "shares.candidate"),
        ({}, {"answer_shares": {"candidate": -1}}, "answer_shares.candidate"),
        ({}, {"dropped": ("someone",)}, "dropped.someone"),
        ({}, {"dropped": ("baseline",)}, "dropped.baseline"),
    ],
)
def test_update__impossible_interval__refused_with_the_field(
    arms: dict[str, ArmCounts], other: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        bandit().update(row(0, arms, **other), rng_of(0))
    assert refused.value.field.startswith(field)


def test_update__interval_twice__refused() -> None:
    state = feed(bandit(), 1, EVEN)
    with pytest.raises(InvalidInput, match="already counted"):
        state.update(row(0, EVEN), rng_of(0))


@pytest.mark.parametrize("arms", [(), ("candidate",), ("candidate", "baseline"), ("baseline",)])
def test_initial__arms_without_a_baseline_first_or_alone__refused(arms: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput) as refused:
        bandit(arms)
    assert refused.value.field == "bandit.arms"


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("kind", "canary", "kind"),
        ("wanted", [1, 2, 3], "wanted"),
        ("gates", {}, "gates"),
        ("beliefs", {"p_best": [1.0], "expected_loss": [0.0]}, "beliefs"),
        ("since_reweight", -1, "since_reweight"),
        ("new_answers", 0.5, "new_answers"),
        ("burn_in", 1, "burn_in"),
        ("reweight", {"kind": "often"}, "reweight.change_bp"),
        ("pace", {"seconds": math.inf, "answers": 0}, "pace.seconds"),
    ],
)
def test_from_json__tampered__refused_with_the_field(name: str, value: object, field: str) -> None:
    data = {**bandit().to_json(), name: value}
    with pytest.raises(InvalidInput) as refused:
        BanditState.from_json(data)
    assert refused.value.field == field


# --- something else ran than what was asked for ---


def test_altered__arm_whose_answers_were_not_its_own__learns_nothing_of_it_and_goes_on_with_the_others() -> (
    None
):
    arms = {"baseline": counts(100, 30), "candidate": counts(100, 5), "candidate-2": counts(100, 30)}
    state = feed(bandit(burn_in=0), 30, arms, altered_answers=("candidate",))
    assert state.learner.scored("candidate") == 0
    assert state.learner.scored("candidate-2") == 3_000
    assert state.assess().winner == ""
    assert feed(bandit(burn_in=0), 30, arms).learner.survivors == ("candidate",)


def test_altered__arm_that_fails_requests__leaves_by_its_gate_all_the_same() -> None:
    arms = {"baseline": counts(100), "candidate": counts(100, errors=40), "candidate-2": counts(100)}
    state = feed(bandit(), 20, arms, altered=("candidate",), altered_answers=("candidate",))
    assert "candidate" not in state.learner.survivors


def test_altered__name_of_no_arm__is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"altered\.candidate-9 is no arm here"):
        feed(bandit(), 1, EVEN, altered=("candidate-9",))
