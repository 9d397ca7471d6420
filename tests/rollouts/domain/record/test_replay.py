"""Replay as pure functions: random courses come out identical, differences are named, packs keep every byte."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.kernel.digests import canonical_json
from rollouts.domain.engines import EngineView, WorkloadPhase
from rollouts.domain.gates.fastkill import WorkloadFacts
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.lifecycle.decide import decide
from rollouts.domain.lifecycle.decision import ArmView, RolloutView, Seen
from rollouts.domain.lifecycle.plan import canary
from rollouts.domain.lifecycle.states import PauseReason, Phase
from rollouts.domain.record.analysis import interval_rng
from rollouts.domain.record.asked import AskedCounts
from rollouts.domain.record.intervals import (
    ArmCounts,
    Completions,
    Interval,
    LatencyCounts,
    Outcomes,
    ProbePair,
)
from rollouts.domain.record.recorded import (
    MOST_THIN_ROWS,
    RecordedRow,
    TamperedEvidence,
    evidence_digest,
    pack_rows,
    pair_sums,
    thin_rows,
    unpack_rows,
)
from rollouts.domain.record.replay import Case, Replay
from rollouts.domain.record.situation import Situation
from rollouts.domain.record.whatif import WhatIf
from rollouts.domain.strategies import strategy_of

POLICY = GatePolicy.from_json(
    {
        "name": "p",
        "version": 1,
        "gates": [
            {"key": "errors", "label": "Errors", "kind": "error_rate", "delta": 0.02},
            {
                "key": "ttft",
                "label": "TTFT",
                "kind": "latency_slo",
                "signal": "ttft",
                "slo_seconds": 0.25,
                "ratio": 1.25,
            },
            {"key": "quality", "label": "Quality", "kind": "paired", "margin": 0.1},
        ],
    }
)
PLAN = canary((25, 50), hold_seconds=60, min_requests=10)
CASE = Case(5, PLAN, POLICY)
BEGAN = 1_770_000_000.0
EDGES = {"ttft": {0.25}}


def random_interval(rng: np.random.Generator, index: int) -> Interval:
    """Traffic as it comes: sometimes nothing, sometimes one arm, sometimes a broken source."""
    arms = {}
    for name in ("baseline", "candidate"):
        if rng.random() < 0.1:
            continue
        requests = int(rng.poisson(rng.choice([0, 3, 40])))
        errors = int(rng.binomial(requests, rng.choice([0.0, 0.02, 0.4])))
        over = int(rng.binomial(requests - errors, 0.2))
        arms[name] = ArmCounts(
            requests=requests,
            errors=errors,
            arrived=requests,
            ready=float(rng.choice([0.0, 0.5, 1.0])),
            latency={"ttft": LatencyCounts(requests - errors, {0.1: requests - errors, 0.25: over, 1.0: 0})},
        )
    scores = rng.random((int(rng.integers(0, 4)), 2))
    return Interval(
        index=index,
        started_at=BEGAN + 5 * index,
        seconds=float(rng.choice([5.0, 4.9973, 0.51])),
        share_bp=int(rng.choice([500, 2_500, 5_000])),
        arms=arms,
        pairs={"candidate": tuple(ProbePair(str(i), float(b), float(c)) for i, (b, c) in enumerate(scores))},
        missing={} if len(arms) == 2 else {"candidate": "restarted"},
        broken={"router": "no answer"} if rng.random() < 0.05 else {},
    )


def recorded(seed: int, length: int) -> list[RecordedRow]:
    """A course as the loop writes it down, with values as a database gives them back."""
    rng = np.random.default_rng(seed)
    analysis, before, rows = (
        strategy_of(PLAN).initial_analysis(PLAN, POLICY, ("baseline", "candidate")),
        None,
        [],
    )
    for index in range(length):
        interval = random_interval(rng, index)
        now = BEGAN + 5 * (index + 1)
        facts = {"candidate": WorkloadFacts(candidate_restarts=int(rng.integers(0, 2)))}
        analysis = analysis.update(interval, interval_rng(CASE.rollout_id, index))
        assessment = analysis.assess(facts)
        view = replace(VIEW, step_since=BEGAN, measured_at=now, step_requests=10 * index)
        decision = decide(view, SEEN, strategy_of(PLAN).ANALYSIS.gates_view(assessment, POLICY), now)
        parts: dict[str, Any] = json.loads(
            canonical_json(
                {
                    "interval": interval.to_json(),
                    "situation": Situation(now, view, SEEN, facts, "this").to_json(),
                    "verdicts": assessment.to_json(),
                    "decision": decision.to_json(),
                }
            )
        )
        before = evidence_digest(before=before, **parts)
        rows.append(RecordedRow(index=index, ended_at=now, digest=before, **parts))
    return rows


VIEW = RolloutView(
    phase=Phase.PROGRESSING,
    pause_reason=PauseReason.NONE,
    plan=PLAN,
    arms=(ArmView("baseline", "chat-v1", "v1"), ArmView("candidate", "chat-v2", "v2")),
    step_index=0,
    phase_since=BEGAN,
    step_since=BEGAN,
    step_requests=0,
    measured_at=BEGAN,
    created_at=BEGAN - 60,
)
SEEN = Seen(
    engines={
        name: EngineView(variant=name, phase=WorkloadPhase.READY, ready=1, desired=1)
        for name in ("chat-v1", "chat-v2")
    },
    desired_shares={"chat-v1": 7_500, "chat-v2": 2_500},
    in_force=True,
    routed=frozenset({"chat-v1", "chat-v2"}),
    answered=frozenset({"chat-v2"}),
)


def played(rows: list[RecordedRow]) -> Replay:
    replay = Replay()
    for row in rows:
        replay = replay.after(CASE, row)
    return replay


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), length=st.integers(1, 40))
def test_replay__of_any_course__is_identical(seed: int, length: int) -> None:
    rows = recorded(seed, length)
    replay = played(rows)
    assert (replay.outcome, replay.identical, replay.log_e) == ("identical", length, 0.0)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), stop=st.integers(1, 19))
def test_replay__stored_in_the_middle__goes_on_to_the_same_end(seed: int, stop: int) -> None:
    rows = recorded(seed, 20)
    replay = Replay.from_json(json.loads(json.dumps(played(rows[:stop]).to_json())), PLAN)
    for row in rows[stop:]:
        replay = replay.after(CASE, row)
    assert replay.to_json() == played(rows).to_json()
    assert replay.outcome == "identical"


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_if__stored_in_the_middle__goes_on_to_the_same_end(seed: int) -> None:
    case = replace(CASE, policy=replace(POLICY, alpha=0.5))
    rows = recorded(seed, 16)
    whole = part = WhatIf.begin(recorded="p@1", other="p@2", began=BEGAN)
    for row in rows:
        whole = whole.after(case, row)
        part = WhatIf.from_json(json.loads(json.dumps(part.to_json())), PLAN).after(case, row)
    assert part.to_json() == whole.to_json()


def test_what_if__the_same_policy__decides_the_same() -> None:
    whole = WhatIf.begin(recorded="p@1", other="p@1", began=BEGAN)
    for row in recorded(3, 30):
        whole = whole.after(CASE, row)
    assert whole.first is None
    assert replace(whole.other, policy="") == replace(whole.recorded, policy="")


def rewritten(row: RecordedRow, before: str | None, **verdicts: Any) -> RecordedRow:
    """The row with other verdicts, as if an earlier version had written it."""
    changed = {**row.verdicts, **verdicts}
    parts = {"interval": row.interval, "situation": row.situation, "decision": row.decision}
    return replace(row, verdicts=changed, digest=evidence_digest(before=before, verdicts=changed, **parts))


def test_replay__other_code__names_the_first_row_and_value() -> None:
    rows = recorded(1, 3)
    replay = played([rows[0], rewritten(rows[1], rows[0].digest, all_required_pass=True)])
    assert replay.outcome == "differs"
    assert replay.first_other is not None
    assert (replay.first_other.row, replay.first_other.difference.path) == (
        "interval 1",
        "verdicts.all_required_pass",
    )


def test_replay__sentence_was_worded_differently__is_identical_and_says_so() -> None:
    rows = recorded(1, 3)
    replay = played([rows[0], rewritten(rows[1], rows[0].digest, reason="Other words.")])
    assert (replay.outcome, replay.identical, replay.reworded) == ("identical", 2, 1)
    assert replay.first_reworded is not None
    assert (replay.first_reworded.row, replay.first_reworded.difference.path) == (
        "interval 1",
        "verdicts.reason",
    )
    assert replay.first_reworded.difference.recorded == "Other words."
    assert Replay.from_json(json.loads(json.dumps(replay.to_json())), PLAN) == replay


def test_replay__number_of_a_sentence_is_said_no_more__is_not_identical() -> None:
    rows = recorded(1, 3)
    replay = played([rows[0], rewritten(rows[1], rows[0].digest, reason="Other words, 987654 of them.")])
    assert (replay.outcome, replay.reworded) == ("equal", 0)
    assert replay.first is not None
    assert replay.first.difference.path == "verdicts.reason"


def test_replay__stored_before_wording_was_compared_apart__goes_on() -> None:
    rows = recorded(1, 4)
    stored = played(rows[:2]).to_json()
    del stored["reworded"], stored["first_reworded"]
    replay = Replay.from_json(json.loads(json.dumps(stored)), PLAN)
    for row in rows[2:]:
        replay = replay.after(CASE, row)
    assert replay == played(rows)


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 2, 1), (1, 2), (0, 2)])
def test_replay__rows_out_of_order_or_missing__are_refused(order: tuple[int, ...]) -> None:
    rows = recorded(1, 3)
    with pytest.raises(TamperedEvidence):
        played([rows[position] for position in order])


# --- packs and thin series ------------------------------------------------------------------------------------------


def test_pack__keeps_every_value_and_digest() -> None:
    rows = recorded(8, 12)
    assert unpack_rows(pack_rows(rows), first=0, last=11) == rows
    assert played(unpack_rows(pack_rows(rows), first=0, last=11)).outcome == "identical"


@pytest.mark.parametrize("cut", [slice(0, 5), slice(1, None)])
def test_pack__that_lacks_rows__is_refused(cut: slice) -> None:
    rows = recorded(8, 6)
    with pytest.raises(TamperedEvidence, match="interval 0"):
        unpack_rows(pack_rows(rows[cut]), first=0, last=5)


def test_thin__of_an_hour__has_few_rows_and_the_same_sums() -> None:
    rng = np.random.default_rng(2)
    intervals = [random_interval(rng, index).to_json() for index in range(720)]
    thin = thin_rows(intervals, edges=EDGES)
    assert 50 < len(thin) <= MOST_THIN_ROWS
    for arm in ("baseline", "candidate"):
        for count in ("requests", "errors", "arrived"):
            whole = sum(row["arms"][arm][count] for row in intervals if arm in row["arms"])
            assert sum(row["arms"][arm][count] for row in thin if arm in row["arms"]) == whole
    pairs = sum(len(row["pairs"]["candidate"]) for row in intervals)
    assert sum(pair_sums(row)["candidate"][0] for row in thin) == pairs
    assert thin[-1]["index"] == 719
    assert Interval.from_json(thin[5]).arms


def test_thin__of_few_intervals__changes_no_count() -> None:
    rng = np.random.default_rng(2)
    intervals = [random_interval(rng, index).to_json() for index in range(20)]
    thin = thin_rows(intervals, edges=EDGES)
    assert [row["index"] for row in thin] == list(range(20))
    for row, whole in zip(thin, intervals, strict=True):
        for arm, counts in whole["arms"].items():
            ttft = counts["latency"]["ttft"]
            over = [pair for pair in ttft["over"] if pair[0] == 0.25]
            assert row["arms"][arm] == {**counts, "latency": {"ttft": {"total": ttft["total"], "over": over}}}


def test_thin__how_requests_ended__is_added_up_where_all_of_it_was_counted() -> None:
    rng = np.random.default_rng(2)
    intervals = [random_interval(rng, index) for index in range(720)]
    ended = [
        replace(
            one,
            arms={
                name: replace(
                    arm,
                    latency={
                        "ttft": LatencyCounts(9, {0.25: 3, 0.5: 1}, left=2, left_over={0.25: 1, 0.5: 1})
                    },
                    outcomes=None if one.index == 0 else Outcomes(answered=7, refused_request=one.index % 3),
                    completions=Completions(7, empty=1, tokens=70),
                )
                for name, arm in one.arms.items()
            },
        )
        for one in intervals
    ]
    thin = [Interval.from_json(row) for row in thin_rows([one.to_json() for one in ended], edges=EDGES)]
    first, rest = thin[0].arms["baseline"], thin[1:]
    assert first.outcomes is None  # of a part of the time: no sum
    for arm in ("baseline", "candidate"):
        merged = [row.arms[arm] for row in rest if arm in row.arms]
        whole = [one.arms[arm] for one in ended if arm in one.arms and one.index > thin[0].index]
        for name in ("answered", "refused_request"):
            assert sum(getattr(one.outcomes, name) for one in merged) == sum(
                getattr(one.outcomes, name) for one in whole
            )
        assert sum(one.completions.tokens for one in merged if one.completions) == 70 * len(whole)
        assert sum(one.latency["ttft"].left_over[0.25] for one in merged) == len(whole)
        assert set(merged[0].latency["ttft"].left_over) == {0.25}


def test_thin__counters_that_gates_asked_for__are_added_up_where_they_say_something() -> None:
    rng = np.random.default_rng(2)
    intervals = [
        replace(
            one,
            arms={
                name: replace(
                    arm,
                    asked={"d": AskedCounts(1, 5) if one.index % 2 else AskedCounts(why="no series")},
                )
                for name, arm in one.arms.items()
            },
        )
        for one in (random_interval(rng, index) for index in range(720))
    ]
    thin = [Interval.from_json(row) for row in thin_rows([one.to_json() for one in intervals], edges=EDGES)]
    told = sum("candidate" in one.arms for one in intervals if one.index % 2)
    merged = [row.arms["candidate"].asked["d"] for row in thin if "candidate" in row.arms]
    assert sum(one.total for one in merged) == 5 * told
    assert sum(one.bad for one in merged) == told
