"""Requests that never end: a gate that has not seen them end may not pass."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.domain.gates.backlog import Backlog, Unsettled
from rollouts.domain.gates.family import GatesState
from rollouts.domain.gates.fastkill import ArmTraffic, TrafficWindow
from rollouts.domain.gates.verdict import Verdict
from tests.rollouts.domain.gates.helpers import ERRORS, REFUSED, arm, counted, interval, policy

NOW = {"baseline_outage_share": 0.1}  # a policy as people write it today


def hanging(minutes: int, share: float, *, stay: float = 0.0, a_second: int = 10) -> GatesState:
    """Both arms get `a_second` requests; of the candidate's `share` hangs for ever with a client that waits, and the
    others hold `stay` seconds' worth of arrivals more than the baseline's (two seconds' worth)."""
    state = GatesState.initial(policy(ERRORS, REFUSED, **NOW))
    hung = 0
    for index in range(minutes * 6):
        arrived = 10 * a_second
        new = round(arrived * share)
        hung += new
        running = hung + round((2 + stay) * a_second)
        candidate = counted(arrived, running=running)
        ended = candidate.outcomes
        assert ended is not None
        state = state.update(
            interval(index, baseline=counted(arrived, running=2 * a_second), candidate=candidate)
        )
    return state


def verdicts(state: GatesState) -> set[Verdict]:
    return {verdict.verdict for verdict in state.assess().verdicts}


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
def test_requests_that_hang__clients_that_never_give_up__no_gate_passes(share: float) -> None:
    for minutes in (2, 4, 8, 20):
        assert Verdict.PASS not in verdicts(hanging(minutes, share)), minutes


def test_few_requests_that_hang__no_gate_passes_once_they_are_clearly_more() -> None:
    for minutes in (4, 8, 20):
        assert Verdict.PASS not in verdicts(hanging(minutes, 0.02)), minutes


def test_requests_that_hang__said_in_numbers() -> None:
    sentence = hanging(8, 0.1).assess().verdicts[0].sentence
    assert "500 of the candidate's requests are still running; 20 would be usual." in sentence
    assert "If the others ended badly, the limit would be exceeded, so it cannot pass yet" in sentence


def test_no_request_hangs__both_gates_pass() -> None:
    assert verdicts(hanging(8, 0.0)) == {Verdict.PASS}


def test_answers_half_as_long_again__pass_as_soon_as_others() -> None:
    assert verdicts(hanging(8, 0.0, stay=1)) == {Verdict.PASS}


def test_answers_ten_times_as_long__pass_once_they_are_few_of_what_was_counted() -> None:
    """Nothing hangs: the level stays where it is, and what is open weighs ever less."""
    assert Verdict.PASS not in verdicts(hanging(6, 0.0, stay=18))
    assert verdicts(hanging(60, 0.0, stay=18)) == {Verdict.PASS}


def restarting(share: float, *, every: int) -> GatesState:
    """The router restarts after so many intervals of 10 s: what it held is lost, and it holds nothing then."""
    state = GatesState.initial(policy(ERRORS, REFUSED, **NOW))
    hung = 0
    for index in range(60):
        lost = {"candidate": hung + 20, "baseline": 20} if index % every == every - 1 else {}
        hung = 0 if lost else hung + round(100 * share)
        both = {"baseline": counted(100, running=20), "candidate": counted(100, running=20 + hung)}
        state = state.update(replace(interval(index), arms={} if lost else both, lost=lost))
    return state


@pytest.mark.parametrize("every", [2, 5, 20])
def test_requests_that_hang__router_that_restarts__no_gate_passes_on_what_it_lost(every: int) -> None:
    assert Verdict.PASS not in verdicts(restarting(0.3, every=every))


@pytest.mark.parametrize("every", [2, 5, 20])
def test_no_request_hangs__router_that_restarts__both_gates_pass(every: int) -> None:
    assert verdicts(restarting(0.0, every=every)) == {Verdict.PASS}


def test_requests_that_were_lost__said_in_numbers() -> None:
    sentence = restarting(0.3, every=20).assess().verdicts[0].sentence
    assert "are still running or were lost when the router restarted (1,770 of them)" in sentence


def test_state_with_lost_requests__written_and_read__is_the_same() -> None:
    state = restarting(0.3, every=5)
    assert state.backlog.lost > 0
    assert GatesState.from_json(json.loads(json.dumps(state.to_json()))) == state


def test_interval_without_measurement__does_not_forget_what_still_runs() -> None:
    state = hanging(8, 0.1)
    later = state.update(interval(state.last_index + 1, baseline=counted(100, running=20)))
    assert later.backlog == state.backlog


def test_policy_of_an_earlier_version__decides_as_it_did() -> None:
    old = policy(ERRORS)
    assert old.earlier
    state = GatesState.initial(old)
    state = state.update(interval(0, baseline=counted(100), candidate=counted(100, running=90)))
    assert "backlog" not in state.to_json()


def test_state__written_and_read__is_the_same() -> None:
    state = hanging(2, 0.1)
    assert GatesState.from_json(json.loads(json.dumps(state.to_json()))) == state


def test_evidence_from_before_outcomes_were_counted__knows_of_nothing_running() -> None:
    assert Backlog().after(arm(100), arm(100)) == Backlog()


def traffic(candidate: int, baseline: int) -> TrafficWindow:
    return TrafficWindow(((10.0, ArmTraffic(arrived=candidate), ArmTraffic(arrived=baseline)),))


@given(
    levels=st.tuples(st.integers(0, 500), st.integers(0, 500)),
    arrived=st.tuples(st.integers(0, 500), st.integers(0, 500)),
    more=st.integers(0, 100),
)
def test_excess__is_never_more_than_what_runs__and_grows_with_it(
    levels: tuple[int, int], arrived: tuple[int, int], more: int
) -> None:
    window = traffic(*arrived)
    now = Unsettled.of(Backlog(*levels), window).excess
    assert 0 <= now <= levels[0]
    assert Unsettled.of(Backlog(levels[0] + more, levels[1]), window).excess >= now


def test_excess__an_arm_with_fewer_arrivals__is_measured_by_them() -> None:
    assert Unsettled.of(Backlog(candidate=50, baseline=50), traffic(100, 100)).excess == 0
    assert Unsettled.of(Backlog(candidate=50, baseline=50), traffic(10, 100)).excess == 43
