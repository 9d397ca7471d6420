"""A policy explained before anything runs under it."""

from __future__ import annotations

from dataclasses import replace

from rollouts.domain.gates.outlook import (
    ASSUMED_PAIRS_PER_MINUTE,
    ASSUMED_SCORE_SPREAD,
    ExpectedTraffic,
    explain_policy,
)
from rollouts.domain.gates.plan_forecast import plan_forecast
from tests.rollouts.domain.gates.helpers import ERRORS, LATENCY, QUALITY, policy

STEPS = ((500, 600.0), (2_500, 1_800.0), (5_000, 1_800.0))
MEASURED = ExpectedTraffic(
    source="triage, the last 24 h", requests_per_second=20.0, base_rates={"errors": 0.002, "ttft": 0.04}
)


def test_explain_policy__numbers__are_those_of_the_plan_s_preview() -> None:
    rules = policy(ERRORS, LATENCY, QUALITY)
    outlook = explain_policy(rules, traffic=MEASURED, steps=STEPS, exposures=())
    for gate, base, told in zip(rules.gates, (0.002, 0.04, 0.0), outlook.gates, strict=True):
        assert told.forecast == plan_forecast(
            policy=rules,
            gate=gate,
            requests_per_second=20.0,
            base_rate=base,
            steps=STEPS,
            pairs_per_minute=ASSUMED_PAIRS_PER_MINUTE,
            score_spread=ASSUMED_SCORE_SPREAD,
        )


def test_explain_policy__more_exposure__finds_smaller_changes() -> None:
    for gate in explain_policy(policy(ERRORS, QUALITY), traffic=ExpectedTraffic()).gates:
        found = [detectable for _, detectable in gate.by_exposure]
        assert all(one is not None for one in found)
        assert sorted(found, reverse=True) == found  # type: ignore[type-var]
        assert len(set(found)) == 3


def test_explain_policy__measured_and_assumed__are_told_apart() -> None:
    traffic = replace(MEASURED, base_rates={"errors": 0.002})
    outlook = explain_policy(policy(ERRORS, LATENCY, QUALITY), traffic=traffic, exposures=())
    assert [gate.measured for gate in outlook.gates] == [True, False, False]
    measured = next(line for line in outlook.basis if line.startswith("Measured"))
    assumed = next(line for line in outlook.basis if line.startswith("Assumed"))
    assert "triage, the last 24 h" in measured
    assert "0.2% for Error rate" in measured
    assert "5% for Time to first token" in assumed
    assert "60 probe pairs a minute" in assumed


def test_explain_policy__gate_that_depends_on_load__says_which_replicas_are_assumed() -> None:
    words = "as many replicas of the candidate as of the baseline"
    loaded, not_loaded = (
        " ".join(explain_policy(policy(gate), traffic=MEASURED, exposures=()).basis)
        for gate in (LATENCY, ERRORS)
    )
    assert words in loaded
    assert words not in not_loaded


def test_explain_policy__nothing_measured__says_what_is_assumed() -> None:
    outlook = explain_policy(policy(ERRORS), traffic=ExpectedTraffic(), exposures=())
    assert not any(line.startswith("Measured") for line in outlook.basis)
    assert "10 requests/s" in " ".join(outlook.basis)


def test_explain_policy__alpha__is_the_expected_false_alarms_and_the_price_of_a_retry() -> None:
    outlook = explain_policy(replace(policy(ERRORS), alpha=0.02), traffic=ExpectedTraffic(), exposures=())
    assert outlook.false_alarms == 2
    assert "by mistake in at most 2 of 100 rollouts" in outlook.promises[0]
    assert (
        "of 3 tries, one or more is rolled back by mistake in at most 6 of 100 cases" in outlook.promises[1]
    )


def test_explain_policy__reactions_that_roll_back__are_outside_the_promise() -> None:
    holds = explain_policy(policy(ERRORS), traffic=ExpectedTraffic(), exposures=())
    rolls = explain_policy(
        replace(policy(ERRORS), on_no_data="rollback"), traffic=ExpectedTraffic(), exposures=()
    )
    assert "held when data is missing" in " ".join(holds.promises)
    sentence = next(line for line in rolls.promises if "rolled back when data is missing" in line)
    assert sentence.endswith("Such rollbacks, too, come on top of the 5 of 100.")


def test_explain_policy__plan_without_a_step_that_can_pass__is_noted() -> None:
    outlook = explain_policy(policy(ERRORS), traffic=ExpectedTraffic(), steps=((500, 600.0),), exposures=())
    assert any("it cannot pass with this plan" in note for note in outlook.notes)


def test_explain_policy__no_gate_required__is_noted() -> None:
    outlook = explain_policy(policy({**ERRORS, "required": False}), traffic=ExpectedTraffic(), exposures=())
    assert (
        "No gate is required: a candidate that fails no gate is promoted when its steps are over."
        in outlook.notes
    )


def test_explain_policy__baseline_beyond_an_absolute_limit__is_noted() -> None:
    rules = policy({**ERRORS, "ratio": 0, "delta": 0.001})
    outlook = explain_policy(rules, traffic=MEASURED, exposures=())
    assert any("the baseline itself has 0.2%, over the limit of 0.1%" in note for note in outlook.notes)


def test_outlook__as_json__has_the_numbers_of_every_gate() -> None:
    data = explain_policy(policy(ERRORS, QUALITY), traffic=MEASURED, steps=STEPS).to_json()
    assert [gate["key"] for gate in data["gates"]] == ["errors", "quality"]
    assert data["gates"][0]["base_rate"] == 0.002
    assert data["gates"][1]["base_rate"] is None
    assert [row["requests"] for row in data["gates"][0]["by_exposure"]] == [1_000, 10_000, 100_000]
    assert data["steps"][0] == {"share_bp": 500, "seconds": 600.0}
