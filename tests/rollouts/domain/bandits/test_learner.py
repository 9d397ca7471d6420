from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.bandits import TopTwoThompson
from rollouts.domain.bandits.arithmetic import ELIMINATION_ODDS
from rollouts.domain.gates.evidence import Wealth
from rollouts.domain.gates.projection import log_increments

ARMS = ("baseline", "candidate", "candidate-2")
UPDATES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            name: st.integers(0, 300).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))
            for name in ARMS
        },
    ),
    max_size=6,
)


def learner(**settings: Any) -> TopTwoThompson:
    return TopTwoThompson.initial(ARMS, **settings)


def after(rows: list[dict[str, tuple[int, int]]], **settings: Any) -> TopTwoThompson:
    state = learner(**settings)
    for row in rows:
        state = state.update(row)
    return state


def test_learner__nothing_seen__all_race_without_evidence_and_alike() -> None:
    state = learner()
    assert state.survivors == ARMS
    assert [state.evidence_against(name) for name in ARMS] == pytest.approx([1, 1, 1])
    assert state.p_best(np.random.default_rng(1)) == pytest.approx([1 / 3] * 3, abs=0.03)


def test_learner__same_rng__same_beliefs() -> None:
    state = after([{"baseline": (100, 70), "candidate": (100, 75), "candidate-2": (100, 60)}])
    one, other = (state.beliefs(np.random.default_rng(5)) for _ in range(2))
    assert one == other
    assert sum(one.p_best) == pytest.approx(1)


def test_evidence_against__two_arms__is_that_of_method_a() -> None:
    state = TopTwoThompson.initial(("baseline", "candidate")).update(
        {"baseline": (40, 20), "candidate": (50, 40)}
    )
    evidence = Wealth.empty(len(ELIMINATION_ODDS), "single").multiply(
        log_increments(0.5, 50, 40, 40, 20, ratio=1.0, delta=0.0, fail=True, multipliers=ELIMINATION_ODDS)
    )
    assert state.evidence_against("baseline") == pytest.approx(math.exp(evidence.log_e))


def test_update__an_arm_clearly_worse__eliminated_for_good_by_the_best() -> None:
    state = after(
        [{"baseline": (300, 200), "candidate": (300, 270), "candidate-2": (300, 240)}] * 2, alpha=0.05
    )
    gone = state.departure("baseline")
    assert gone is not None
    assert (gone.cause, gone.beaten_by, gone.at_index) == ("evidence", "candidate", 0)
    assert gone.evidence >= 20
    turned = state
    for _ in range(5):
        turned = turned.update({"baseline": (300, 300), "candidate": (300, 100), "candidate-2": (300, 100)})
    assert turned.departure("baseline") == gone
    assert "baseline" not in turned.survivors


def test_update__every_arm_beaten_in_turn__the_last_one_stays() -> None:
    state = learner()
    for row in ((300, 100, 300), (300, 300, 100), (300, 100, 300), (100, 300, 300)) * 4:
        state = state.update({name: (300, good) for name, good in zip(ARMS, row, strict=True)})
    assert len(state.survivors) == 1


def test_update__several_cross_at_once__most_evidence_first() -> None:
    state = after([{"baseline": (900, 100), "candidate": (900, 800), "candidate-2": (900, 400)}])
    assert [gone.arm for gone in state.departures] == ["baseline", "candidate-2"]


def test_evidence_against__departed_by_evidence__goes_on_counting() -> None:
    """What it proved while it was there still holds, and stands still when it gets no more answers."""
    state = after([{"baseline": (300, 180), "candidate": (300, 200), "candidate-2": (300, 285)}])
    assert "baseline" not in state.survivors
    duels = state.sums.log_duels()
    later = state.update({"candidate": (10, 7), "candidate-2": (10, 7)}).sums.log_duels()
    assert later[0].tolist() == duels[0].tolist()
    assert later[2, 1] != duels[2, 1]


def test_evidence_against__arm_dropped_by_its_guardrail__no_longer_speaks_against_others() -> None:
    """Being worse than an arm that cannot win is no reason to go."""
    row = {"baseline": (100, 60), "candidate": (100, 60), "candidate-2": (100, 75)}
    before = after([row])
    assert before.survivors == ARMS
    state = before.drop("candidate-2", "guardrail", "errors", 1)
    assert state.evidence_against("candidate") < before.evidence_against("candidate")
    for _ in range(6):
        state = state.update({**row, "candidate-2": (100, 95)})
    assert state.survivors == ("baseline", "candidate")


def test_drop__twice__keeps_the_first_reason() -> None:
    state = learner().drop("candidate", "person", "", 3).drop("candidate", "guardrail", "errors", 4)
    gone = state.departure("candidate")
    assert gone is not None
    assert (gone.cause, gone.at_index) == ("person", 3)


def test_shares__an_arm_that_left__gets_nothing_and_the_baseline_its_floor() -> None:
    state = learner().drop("candidate-2", "person", "", 0)
    assert state.shares((0.2, 0.6, 0.2)) == pytest.approx((0.5, 0.5, 0))  # two left at beta .5
    assert learner().shares((0.0, 1.0, 0.0)) == pytest.approx((0.1, 0.85, 0.05))


def test_shares_bp__burn_in__equal_in_whole_basis_points() -> None:
    assert learner().shares_bp(None) == (3334, 3333, 3333)
    assert learner().drop("candidate", "person", "", 0).shares_bp(None) == (5000, 0, 5000)
    assert learner(baseline_floor=0.5).shares_bp(None) == (5000, 2500, 2500)


@settings(max_examples=30, deadline=None)
@given(UPDATES, st.sets(st.sampled_from(ARMS[1:])), st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_learner__any_updates__shares_and_json_hold(
    rows: list[dict[str, tuple[int, int]]], dropped: set[str], p_best: list[float]
) -> None:
    state = after(rows)
    for name in dropped:
        state = state.drop(name, "guardrail", "why", 7)
    shares = state.shares_bp(p_best)
    assert sum(shares) == 10_000
    assert shares[0] >= 1000
    for name, share in zip(ARMS[1:], shares[1:], strict=True):
        assert share >= 500 if name in state.survivors else share == 0
    again = TopTwoThompson.from_json(json.loads(json.dumps(state.to_json())))
    assert again == state
    assert again.to_json() == state.to_json()
    assert hash(again) == hash(state)


@settings(max_examples=25, deadline=None)
@given(UPDATES, st.permutations(ARMS))
def test_learner__arms_in_another_order__same_results(
    rows: list[dict[str, tuple[int, int]]], order: list[str]
) -> None:
    one, other = learner(), TopTwoThompson.initial(order)
    for row in rows:
        one, other = one.update(row), other.update(row)
    assert set(one.survivors) == set(other.survivors)
    for name in ARMS:
        assert one.evidence_against(name) == pytest.approx(other.evidence_against(name), rel=1e-6)


@pytest.mark.parametrize(
    ("rewards", "field"),
    [
        ({"someone": (1, 1)}, "rewards.someone"),
        ({"candidate": (10, 11)}, "rewards.candidate.s"),
        ({"candidate": (10, -1)}, "rewards.candidate.s"),
        ({"candidate": (-1, 0)}, "rewards.candidate.n"),
        ({"candidate": (1.5, 1)}, "rewards.candidate.n"),
        ({"candidate": (10, math.nan)}, "rewards.candidate.s"),
    ],
)
def test_update__impossible_counts__refused_with_the_field(rewards: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        learner().update(rewards)
    assert refused.value.field == field


def test_update__graded_scores__are_taken() -> None:
    state = learner().update({"candidate": (10, 7.25), "baseline": (10, 5.5)})
    assert state.evidence_against("baseline") > 1


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"alpha": 0}, "alpha"),
        ({"beta": 2}, "beta"),
        ({"floor": 0.5}, "floor"),
        ({"baseline_floor": -0.1}, "baseline_floor"),
        ({"discount": 0}, "discount"),
    ],
)
def test_initial__impossible_settings__refused_with_the_field(settings: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        learner(**settings)
    assert refused.value.field == field


@pytest.mark.parametrize("arms", [("baseline",), ("baseline", "baseline"), ("baseline", "")])
def test_initial__impossible_arms__refused(arms: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput) as refused:
        TopTwoThompson.initial(arms)
    assert refused.value.field == "arms"


def broken(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(learner().to_json()))
    inner = data
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return data


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        (("sums", "logs"), [[0.0]], "sums.logs"),
        (("sums", "scored"), [1.0, "x", 2.0], "sums.scored"),
        (("sums", "pull"), [math.inf, 0.0, 0.0], "sums.pull"),
        (("beta",), 7, "beta"),
        (("departures",), [{"arm": "candidate"}], "departures.cause"),
        (("updates",), -1, "updates"),
        (("extra",), 1, "extra"),
    ],
)
def test_from_json__tampered__refused_with_the_field(path: tuple[str, ...], value: Any, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        TopTwoThompson.from_json(broken(path, value))
    assert refused.value.field == field
