"""What the decision is told of an assessment: what is still open, what the policy does about it, who left and why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rollouts.domain.bandits import BanditSpec
from rollouts.domain.gates.fastkill import WorkloadFacts
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.lifecycle.decision import ArmView, Drop, GatesView, RaceView, RolloutView
from rollouts.domain.lifecycle.plan import Plan, canary
from rollouts.domain.lifecycle.states import PauseReason, Phase
from rollouts.domain.record.analysis import (
    analysed_arms,
    interval_rng,
    labels_of,
)
from rollouts.domain.record.intervals import ArmCounts, Interval
from rollouts.domain.strategies import STRATEGIES, strategy_of

CANARY = canary((25, 50), hold_seconds=60, min_requests=100)
BANDIT = Plan(strategy="bandit", steps=(), settings=BanditSpec(burn_in=20))
ARMS = ("baseline", "candidate", "candidate-2")


def policy(**changes: Any) -> GatePolicy:
    errors = {"key": "errors", "label": "Error rate", "kind": "error_rate", "delta": 0.05, "min_exposure": 10}
    return GatePolicy.from_json({"name": "p", "version": 1, "gates": [errors], **changes})


ROLLS_BACK = policy(on_inconclusive="rollback", on_no_data="rollback", on_error="rollback")


def counts(requests: int, errors: int = 0, answers: int = 0, down: int = 0) -> ArmCounts:
    return ArmCounts(
        requests, errors, arrived=requests, ready=1.0, answers=answers, thumbs_down=down, ratings=down
    )


def interval(index: int, arms: dict[str, ArmCounts], **changes: Any) -> Interval:
    made = Interval(
        index=index, started_at=index * 5.0, seconds=5.0, share_bp=3_333, arms=arms, shares={}, **changes
    )
    return replace(made, shares=dict.fromkeys(arms, 10_000 // max(1, len(arms))))


def view(*causes: str) -> RolloutView:
    variants = zip(ARMS, ("v1", "v2", "v3"), strict=True)
    causes = causes or ("", "", "")
    arms = tuple(
        ArmView(name, f"chat-{label}", label, dropped=bool(cause), cause=cause)
        for (name, label), cause in zip(variants, causes, strict=True)
    )
    return RolloutView(
        phase=Phase.PROVISIONING,
        pause_reason=PauseReason.NONE,
        plan=BANDIT,
        step_index=-1,
        phase_since=0.0,
        step_since=None,
        step_requests=0,
        measured_at=None,
        created_at=0.0,
        arms=arms,
    )


# --- what is open ---------------------------------------------------------------------------------------------------

MEASURED: dict[str, tuple[Interval, str]] = {
    "no-data": (interval(0, {}), "no-data"),
    "inconclusive": (interval(0, {"baseline": counts(20), "candidate": counts(20)}), "inconclusive"),
    "error": (interval(0, {}, broken={"router": "HTTP 500"}), "error"),
    "passed": (interval(0, {"baseline": counts(3_000), "candidate": counts(3_000)}), ""),
}


@pytest.mark.parametrize("case", sorted(MEASURED))
def test_gates_view__of_a_canary__says_what_is_open_and_what_the_policy_does(case: str) -> None:
    made, expected = MEASURED[case]
    assessment = (
        STRATEGIES["canary"]
        .initial_analysis(CANARY, ROLLS_BACK, ARMS[:2])
        .update(made, interval_rng(1, 0))
        .assess({})
    )
    gates = STRATEGIES["canary"].ANALYSIS.gates_view(assessment, ROLLS_BACK)
    assert gates.open_because == expected
    assert gates.reaction == ("rollback" if expected else "hold")
    assert STRATEGIES["canary"].ANALYSIS.gates_view(assessment, policy()).reaction == "hold"


def test_gates_view__only_the_reaction_to_what_is_open_counts() -> None:
    made, _ = MEASURED["inconclusive"]
    other = policy(on_no_data="rollback", on_error="rollback")
    assessment = (
        STRATEGIES["canary"]
        .initial_analysis(CANARY, other, ARMS[:2])
        .update(made, interval_rng(1, 0))
        .assess({})
    )
    assert STRATEGIES["canary"].ANALYSIS.gates_view(assessment, other).reaction == "hold"


def test_gates_view__bandit_with_a_tie_and_all_gates_passed__is_inconclusive() -> None:
    many = dict.fromkeys(ARMS, counts(4_000))
    analysis = (
        STRATEGIES["bandit"]
        .initial_analysis(BANDIT, ROLLS_BACK, ARMS)
        .update(interval(0, many), interval_rng(1, 0))
    )
    gates = analysis.gates_view(analysis.assess({}), ROLLS_BACK)
    assert (gates.open_because, gates.reaction) == ("inconclusive", "rollback")


# --- bandits --------------------------------------------------------------------------------------------------------


def test_opening_gates__equal_shares_of_the_arms_that_launched() -> None:
    two = STRATEGIES["bandit"].opening_gates(view("", "", "launch"), policy()).race
    assert two is not None
    assert two.wanted == {"baseline": 5_000, "candidate": 5_000}
    everyone = STRATEGIES["bandit"].opening_gates(view(), policy()).race
    assert everyone is not None
    assert sum(everyone.wanted.values()) == 10_000
    assert max(everyone.wanted.values()) - min(everyone.wanted.values()) <= 1


def test_opening_gates__nobody_launched_or_a_canary__says_nothing() -> None:
    assert STRATEGIES["bandit"].opening_gates(view("", "launch", "launch"), policy()).race is None
    assert STRATEGIES["canary"].opening_gates(view(), policy()).race is None


def test_analysed_arms__are_all_that_ever_launched() -> None:
    assert analysed_arms(view("", "evidence", "launch")) == ("baseline", "candidate")


def test_gates_view__guardrail__is_the_cause_should_nobody_be_left() -> None:
    bad = {"baseline": counts(400), "candidate": counts(400, errors=200), "candidate-2": counts(400)}
    strict = policy(fast_kill={"enabled": False})
    analysis = (
        STRATEGIES["bandit"]
        .initial_analysis(BANDIT, strict, ARMS)
        .update(interval(0, bad), interval_rng(1, 0))
    )
    bandit = analysis.gates_view(analysis.assess({}, labels_of(view())), strict).race
    assert bandit is not None
    assert [(drop.arm, drop.cause, drop.blame) for drop in bandit.left] == [
        ("candidate", "guardrail", "gate:errors")
    ]
    assert bandit.wanted["candidate"] == 0
    assert "Error rate" in bandit.left[0].sentence


def test_gates_view__engine_killed_for_memory__the_bare_reason_so_that_it_is_not_said_twice() -> None:
    analysis = STRATEGIES["bandit"].initial_analysis(BANDIT, policy(), ARMS)
    facts = {"candidate-2": WorkloadFacts(candidate_oom_kills=1)}
    bandit = analysis.gates_view(analysis.assess(facts), policy()).race
    assert bandit is not None
    (drop,) = bandit.left
    assert (drop.arm, drop.cause, drop.blame) == ("candidate-2", "workload", "fast-kill")
    told = interval(
        0, dict.fromkeys(ARMS, counts(5)), dropped=("candidate-2",), missing={"candidate-2": drop.sentence}
    )
    verdict = analysis.update(told, interval_rng(1, 0)).assess({}).to_json()["arms"][2]
    assert verdict["cause"] == "workload"
    assert verdict["sentence"].count("Dropped because of its engine") == 1


@pytest.mark.parametrize(("plan", "arms"), [(CANARY, ARMS[:2]), (BANDIT, ARMS)])
def test_analysis_and_assessment__through_json__are_the_same(plan: Plan, arms: tuple[str, ...]) -> None:
    made = interval(0, {name: counts(50, 1, answers=40, down=4) for name in arms})
    analysis = strategy_of(plan).initial_analysis(plan, policy(), arms).update(made, interval_rng(7, 0))
    kind = strategy_of(plan).ANALYSIS
    assert kind.stored(analysis.to_json()) == analysis
    assessment = analysis.assess({})
    assert kind.stored_assessment(assessment.to_json()) == assessment


# --- what a what-if asks ----------------------------------------------------------------------------------------------

ONE, SEVERAL = STRATEGIES["canary"].ANALYSIS, STRATEGIES["bandit"].ANALYSIS
FAILED = GatesView(rollback=True, cause="gate:errors", cause_sentence="Errors rose.")
VERDICT = {"key": "errors", "label": "Error rate", "verdict": "fail", "sentence": "Errors rose."}


def test_lines__one_candidate__are_its_verdicts() -> None:
    assert list(ONE.lines({"verdicts": [VERDICT]})) == [("errors", "Error rate", "fail", "Errors rose.")]
    assert list(ONE.lines({})) == []


def test_lines__several_candidates__are_the_arms_and_the_verdicts_of_each_with_its_arm() -> None:
    arm = {"name": "candidate", "state": "racing", "sentence": "It goes on."}
    assessed = {"arms": [arm], "gates": {"candidate": {"verdicts": [VERDICT]}}}
    assert list(SEVERAL.lines(assessed)) == [
        ("candidate", "candidate", "racing", "It goes on."),
        ("candidate.errors", "candidate: Error rate", "fail", "Errors rose."),
    ]


def test_wants_back__one_candidate__by_its_gates_or_the_fast_kill() -> None:
    assert ONE.wants_back(FAILED) == ("gate:errors", "Errors rose.")
    assert ONE.wants_back(replace(FAILED, fast_kill="All failed.")) == ("fast-kill", "All failed.")
    assert ONE.wants_back(GatesView()) is None


def test_wants_back__several_candidates__when_the_last_one_left() -> None:
    first, last = (
        Drop("candidate", "gate:errors", "Errors rose."),
        Drop("candidate-2", "person", "Not wanted."),
    )
    gates = {"candidate": FAILED, "candidate-2": GatesView()}
    assert SEVERAL.wants_back(GatesView(race=RaceView({}, left=(first,), gates=gates))) is None
    both = RaceView({}, left=(first, last), gates=gates)
    assert SEVERAL.wants_back(GatesView(race=both)) == ("person", "Not wanted.")
    assert SEVERAL.wants_back(GatesView(race=RaceView({}))) is None


def test_wants_promotion__one_candidate__when_every_required_gate_passes() -> None:
    assert (
        ONE.wants_promotion(GatesView(all_required_pass=True, passed_sentence="All passed.")) == "All passed."
    )
    assert ONE.wants_promotion(GatesView(passed_sentence="One passed.")) is None


def test_wants_promotion__several_candidates__when_there_is_a_winner() -> None:
    won = RaceView({}, winner="candidate", sentence="v2 is the best.")
    assert SEVERAL.wants_promotion(GatesView(race=won)) == "v2 is the best."
    assert SEVERAL.wants_promotion(GatesView(race=replace(won, winner=""))) is None
