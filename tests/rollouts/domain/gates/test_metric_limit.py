"""A number against a fixed limit: rows of readings, whatever lies between them, and never a test of chance."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.gates.family import GatesState
from rollouts.domain.gates.limit_track import LimitTrack
from rollouts.domain.gates.outlook import ExpectedTraffic, explain_policy
from rollouts.domain.gates.plan_forecast import plan_forecast
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.gates.reading import Circumstances
from rollouts.domain.gates.verdict import FamilyVerdict, GateVerdict, Verdict
from rollouts.domain.gates.weaker import weakenings
from rollouts.domain.record.intervals import ArmCounts, Interval
from rollouts.domain.record.numbers import NumberReading
from tests.rollouts.domain.gates.helpers import ERRORS

QUERY = 'max(temperature{pod=~"{{pods}}"})'
HEAT: dict[str, Any] = {
    "key": "heat", "label": "GPU temperature", "kind": "metric_limit", "query": QUERY, "limit": 85,
    "direction": "at_most", "fail_readings": 3, "pass_readings": 4,
}  # fmt: skip


def policy(**changes: Any) -> GatePolicy:
    gates = [{**ERRORS, "required": False}, {**HEAT, **changes}]
    return GatePolicy.from_json({"name": "test", "version": 1, "gates": gates})


POLICY = policy()
GATE = POLICY.gates[1]
assert GATE.number is not None
DIGEST = GATE.number.digest
ABSENT = "its query has no fresh series of v2"
Said = float | str | None  # a number, why there is none, or not even an arm


def interval(
    index: int, said: Said, *, at: float | None = None, share_bp: int = 5_000, **other: Any
) -> Interval:
    arms = {"baseline": ArmCounts(50, 0, 50, 1.0)}
    if said is not None:
        moment = 1_000.0 + index if at is None else at
        read = NumberReading(why=said) if isinstance(said, str) else NumberReading(said, moment)
        arms["candidate"] = ArmCounts(50, 0, 50, 1.0, numbers={DIGEST: read})
    return Interval(index, 5.0 * index, 5.0, share_bp, arms, **other)


def after(said: Sequence[Said], rules: GatePolicy = POLICY, **other: Any) -> GatesState:
    state = GatesState.initial(rules)
    for index, one in enumerate(said):
        state = state.update(interval(index, one, **other))
    return state


def heat(state: GatesState) -> GateVerdict:
    found = state.assess().verdict("heat")
    assert found is not None
    return found


# --- rows -----------------------------------------------------------------------------------------------------------


def test_verdict__enough_readings_beyond_in_a_row__fails_and_rolls_back_in_one_sentence() -> None:
    state = after([90.0, 91.0, 90.2])
    assert heat(state).sentence == (
        "GPU temperature was above 85 in 3 readings in a row (90.2 at the last): rolled back. "
        "A fixed limit, no test of chance."
    )
    family = state.assess()
    assert (family.rollback, family.cause and family.cause.key) == (True, "heat")
    assert family.evidence == pytest.approx(1.0, abs=0.2)  # no part of what the tests add up


def test_verdict__one_reading_within__begins_the_row_anew() -> None:
    assert heat(after([90.0, 90.0, 85.0, 90.0, 90.0])).verdict is Verdict.INCONCLUSIVE


def test_verdict__enough_readings_within__passes() -> None:
    found = heat(after([71.0, 72.0, 85.0, 71.3]))
    assert found.verdict is Verdict.PASS
    assert found.sentence == (
        "GPU temperature is within its limit, at most 85, in 4 readings in a row (71.3 at the last). "
        "A fixed limit, no test of chance."
    )


def test_verdict__beyond_after_it_passed__is_open_at_once_and_fails_in_the_end() -> None:
    said = [70.0] * 6 + [90.0] * 2
    assert heat(after(said)).verdict is Verdict.INCONCLUSIVE
    assert heat(after([*said, 90.0])).verdict is Verdict.FAIL


def test_verdict__cooler_after_it_failed__stays_failed_with_the_numbers_of_then() -> None:
    state = after([90.0] * 3 + [60.0] * 50)
    assert heat(state).sentence.startswith(
        "GPU temperature was above 85 in 3 readings in a row (90 at the last)"
    )
    assert state.assess().rollback


def test_verdict__at_least__is_the_other_side() -> None:
    rules = policy(direction="at_least", limit=0.9)
    found = heat(after([0.95, 0.8, 0.85, 0.7], rules))
    assert found.verdict is Verdict.FAIL
    assert "was below 0.9 in 3 readings in a row (0.7 at the last)" in found.sentence


def test_verdict__small_share__counts_against_it_and_not_for_a_pass() -> None:
    found = heat(after([70.0] * 20, share_bp=500))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "It can pass only while the candidate's share is 25% or more, and now it is 5%" in found.sentence
    assert heat(after([90.0] * 3, share_bp=500)).verdict is Verdict.FAIL


def test_verdict__same_sample_again__is_one_reading() -> None:
    assert heat(after([90.0] * 50, at=1_000.0)).n_candidate == 1
    assert heat(after([90.0] * 50, at=1_000.0)).verdict is Verdict.INCONCLUSIVE


def test_verdict__something_else_ran__may_fail_and_never_pass() -> None:
    assert heat(after([70.0] * 9, altered=("candidate",))).verdict is Verdict.NO_DATA
    assert heat(after([90.0] * 3, altered=("candidate",))).verdict is Verdict.FAIL


def test_verdict__statistics_void_because_traffic_is_sticky__a_fixed_limit_still_fails() -> None:
    state = GatesState.initial(POLICY, counted_by_unit=False)
    for index in range(3):
        state = state.update(interval(index, 90.0))
    assert state.assess().rollback


# --- what is absent -------------------------------------------------------------------------------------------------


def test_verdict__absent_from_the_start__is_no_data_however_long() -> None:
    found = heat(after([ABSENT] * 300))
    assert (found.verdict, found.sentence) == (
        Verdict.NO_DATA,
        f"GPU temperature has no data: candidate: {ABSENT}.",
    )


def test_verdict__absent_after_it_passed__is_no_data_once_it_is_stale() -> None:
    assert heat(after([70.0] * 4 + [ABSENT] * 11)).verdict is Verdict.PASS
    found = heat(after([70.0] * 4 + [ABSENT] * 12))
    assert found.verdict is Verdict.NO_DATA
    assert (
        found.sentence
        == f"GPU temperature has no data: candidate: {ABSENT} for 60 s (70 at the last reading)."
    )


def test_verdict__not_asked_for__is_no_data() -> None:
    state = GatesState.initial(POLICY)
    state = state.update(Interval(0, 0.0, 5.0, 5_000, {"candidate": ArmCounts(50, 0, 50, 1.0)}))
    assert heat(state).sentence == "GPU temperature has no data: candidate: its number was not asked for."


def test_verdict__source_broken__is_an_error_and_rolls_nothing_back() -> None:
    state = after([90.0, 90.0])
    for index in range(2, 200):
        state = state.update(interval(index, None, broken={"router": "Prometheus did not answer"}))
    assert heat(state).verdict is Verdict.ERROR
    assert not state.assess().rollback


def test_update__number_that_is_none__is_refused_with_the_place() -> None:
    with pytest.raises(InvalidInput) as refused:
        after([float("nan")])
    assert refused.value.field == f"arms.candidate.numbers.{DIGEST}.value"


readings = st.lists(st.sampled_from([70.0, 90.0]), max_size=25)
gaps = st.sampled_from([ABSENT, None, "its query failed"])


@given(readings, st.data())
def test_rows__gaps_anywhere__change_no_row(said: list[float], data: st.DataObject) -> None:
    mixed: list[Said] = list(said)
    for _ in range(data.draw(st.integers(0, 10))):
        mixed.insert(data.draw(st.integers(0, len(mixed))), data.draw(gaps))
    plain, track = after(said).tracks[1], after(mixed).tracks[1]
    assert isinstance(plain, LimitTrack)
    assert isinstance(track, LimitTrack)
    rows = (track.beyond, track.within, track.readings, track.value, track.failed)
    assert rows == (plain.beyond, plain.within, plain.readings, plain.value, plain.failed)


@given(st.lists(st.sampled_from([70.0, 90.0, ABSENT, None]), max_size=40))
def test_verdict__any_order__fails_and_passes_only_by_rows_of_numbers(said: list[Said]) -> None:
    numbers = "".join("b" if one == 90.0 else "w" for one in said if isinstance(one, float))
    found = heat(after(said)).verdict
    assert (found is Verdict.FAIL) == ("bbb" in numbers)
    assert found is not Verdict.PASS or numbers.endswith("wwww")


@given(st.lists(st.sampled_from([70.0, 90.0, ABSENT]), max_size=25))
def test_state__kept_as_json_in_between__decides_the_same(said: list[Said]) -> None:
    state = GatesState.initial(POLICY)
    for index, one in enumerate(said):
        kept = json.loads(json.dumps(state.to_json()))
        read = Interval.from_json(json.loads(json.dumps(interval(index, one).to_json())))
        state = GatesState.from_json(kept).update(read)
    whole = after(said).assess().to_json()
    assert state.assess().to_json() == whole
    assert FamilyVerdict.from_json(json.loads(json.dumps(whole))).to_json() == whole


def test_evidence__of_the_tests__is_the_same_with_and_without_a_fixed_limit() -> None:
    without = replace(POLICY, gates=POLICY.gates[:1])
    assert after([70.0] * 9).log_evidence == after([70.0] * 9, without).log_evidence


def test_finding__baseline_beyond_it__is_told_and_decides_nothing() -> None:
    arms = {
        "baseline": ArmCounts(50, 0, 50, 1.0, numbers={DIGEST: NumberReading(88.0, 1.0)}),
        "candidate": ArmCounts(50, 0, 50, 1.0, numbers={DIGEST: NumberReading(80.0, 1.0)}),
    }
    found = heat(GatesState.initial(POLICY).update(Interval(0, 0.0, 5.0, 5_000, arms)))
    assert found.finding == "The baseline itself is beyond this limit: 88."
    assert (found.baseline, found.candidate) == (88.0, 80.0)
    assert found.axis.estimate == pytest.approx(80 / 85)


# --- the policy -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"query": None}, "query"),
        ({"query": "up"}, "query"),
        ({"query": "up{a='{{host}}'}"}, "query"),
        ({"limit": None}, "limit"),
        ({"limit": float("inf")}, "limit"),
        ({"limit": 1e16}, "limit"),
        ({"direction": None}, "direction"),
        ({"direction": "below"}, "direction"),
        ({"fail_readings": 0}, "fail_readings"),
        ({"fail_readings": 2.5}, "fail_readings"),
        ({"pass_readings": 0}, "pass_readings"),
        ({"pass_readings": 100_001}, "pass_readings"),
        ({"weight": 0.1}, "weight"),
        ({"mode": "strict"}, "mode"),
        ({"ratio": 1.5}, "ratio"),
        ({"delta": 0.1}, "delta"),
        ({"margin": 0.1}, "margin"),
        ({"min_exposure": 5}, "min_exposure"),
        ({"slo_seconds": 1.0}, "slo_seconds"),
        ({"bad_query": "b{v='{{variant}}'}"}, "bad_query"),
    ],
)
def test_policy__field_that_does_not_fit__is_refused_by_its_name(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        policy(**changes)
    assert refused.value.field == f"gates[1].{field}"


@pytest.mark.parametrize("name", ["query", "limit", "direction", "fail_readings", "pass_readings"])
def test_policy__field_of_a_fixed_limit_at_another_kind__is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        GatePolicy.from_json({"name": "test", "version": 1, "gates": [{**ERRORS, name: HEAT[name]}]})
    assert refused.value.field == f"gates[0].{name}"


def test_policy__fixed_limits_only__is_refused() -> None:
    with pytest.raises(InvalidInput, match="fixed limits only"):
        GatePolicy.from_json({"name": "test", "version": 1, "gates": [HEAT]})


def test_policy__no_weights__are_equal_parts_of_the_tests_alone() -> None:
    tests = [{"key": key, "kind": "error_rate", "delta": 0.01} for key in ("a", "b")]
    rules = GatePolicy.from_json({"name": "test", "version": 1, "gates": [*tests, HEAT]})
    assert [gate.weight for gate in rules.gates] == [0.5, 0.5, 0.0]


def test_policy__readings_left_out__have_their_usual_number() -> None:
    short = {name: value for name, value in HEAT.items() if not name.endswith("_readings")}
    rules = GatePolicy.from_json({"name": "test", "version": 1, "gates": [ERRORS, short]})
    assert (rules.gates[1].fail_readings, rules.gates[1].pass_readings) == (6, 12)


def test_policy__as_json_and_back__is_the_same() -> None:
    assert GatePolicy.from_json(json.loads(json.dumps(POLICY.to_json()))) == POLICY


def test_describe__says_that_it_is_no_test_of_chance() -> None:
    assert GATE.describe() == (
        "GPU temperature: the candidate's number, as its query says it, at most 85. FAIL after 3 readings in a row "
        "above 85; PASS after 4 readings in a row within the limit. A fixed limit, no test of chance. Its rollbacks "
        "come on top of the policy's false alarms. Its PASS is needed for promotion."
    )


@pytest.mark.parametrize(
    ("changes", "weaker"),
    [
        ({"limit": 90}, ["gates.heat.limit"]),
        ({"limit": 80}, []),
        ({"fail_readings": 4}, ["gates.heat.fail_readings"]),
        ({"fail_readings": 2}, []),
        ({"pass_readings": 3}, ["gates.heat.pass_readings"]),
        ({"pass_readings": 5}, []),
        ({"query": 'min(temperature{pod=~"{{pods}}"})'}, ["gates.heat.query"]),
        ({"required": False}, ["gates.heat.required"]),
    ],
)
def test_weakenings__of_a_fixed_limit__are_named(changes: dict[str, Any], weaker: list[str]) -> None:
    assert [one.field for one in weakenings(POLICY, policy(**changes))] == weaker


def test_weakenings__at_least__a_lower_limit_is_the_weaker_one() -> None:
    old, new = (policy(direction="at_least", limit=limit) for limit in (0.9, 0.8))
    assert [one.field for one in weakenings(old, new)] == ["gates.heat.limit"]
    assert weakenings(new, old) == ()


# --- before it runs -------------------------------------------------------------------------------------------------


def forecast(steps: Sequence[tuple[int, float]]) -> Any:
    return plan_forecast(
        policy=POLICY, gate=GATE, requests_per_second=1.0, base_rate=0.0, steps=steps, interval_seconds=5.0
    )


def test_plan_forecast__fixed_limit__counts_readings_from_the_first_step_that_is_large_enough() -> None:
    found = forecast(((500, 600.0), (5_000, 600.0)))
    assert (found.requests_to_pass, found.minutes_to_pass, found.passes_in_plan) == (
        4,
        pytest.approx(1 / 3),
        True,
    )
    assert found.sentence == (
        "GPU temperature: 3 readings in a row above 85 (15 s or more) roll back; it passes after 4 within "
        "(20 s or more), from 50% on. A fixed limit, no test of chance."
    )


@pytest.mark.parametrize(
    ("steps", "words"), [(((500, 600.0),), "large enough"), (((5_000, 10.0),), "longer than")]
)
def test_plan_forecast__plan_too_small_or_short__says_so(steps: Any, words: str) -> None:
    found = forecast(steps)
    assert not found.passes_in_plan
    assert words in found.sentence


def test_explain_policy__fixed_limit__is_named_outside_alpha() -> None:
    told = explain_policy(POLICY, traffic=ExpectedTraffic(), exposures=())
    assert told.gates[1].odds_alone is None
    assert any("rollbacks by GPU temperature come on top of the" in line for line in told.promises)


def test_update__after_a_late_search__keeps_its_row() -> None:
    track = LimitTrack().update(GATE, POLICY, interval(0, 90.0), "candidate", Circumstances())
    assert track.start_again() == track
