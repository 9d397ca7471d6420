"""Gates on a team's own counters, in whole rollouts: a worse share goes back, and what is not counted never passes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from controlplane.kernel.errors import Unavailable
from rollouts.adapters.routers.memory import MemoryResponse
from rollouts.adapters.signals.memory import MemorySignals
from rollouts.domain.record.asked import CounterAnswer
from rollouts.domain.record.readings import SignalReading
from rollouts.models import Evidence
from rollouts.ports import CounterQuestion
from rollouts.services.evidence.replay import replay_whole
from rollouts.services.loop.own_counters import with_own_counters
from rollouts.services.loop.rows import read_rows
from tests.rollouts.memory_world import BANDIT, ERRORS, PLAN, MemoryWorld, version_of

pytestmark = [pytest.mark.story, pytest.mark.django_db]

BAD, ALL = (f'{name}{{pod=~"{{{{pods}}}}"}}' for name in ("tool_failures_total", "tool_calls_total"))
TOOLS = {
    "key": "tools",
    "label": "Failed tool calls",
    "kind": "counter_ratio",
    "bad_query": BAD,
    "all_query": ALL,
    "delta": 0.1,
    "weight": 0.7,
}


def counting(w: MemoryWorld, failing: Mapping[int, float]) -> Callable[[MemoryResponse], None]:
    """Every answer calls one tool, of which so many fail, by version; both counters are there from the start."""

    def count(response: MemoryResponse) -> None:
        if not response.answered or response.status != 200:
            return
        counted = w.router.engine(response.answered).counted
        fails = w.users.random() < failing.get(version_of(response.answered), 0.02)
        counted[ALL] = counted.get(ALL, 0) + 1
        counted[BAD] = counted.get(BAD, 0) + fails

    return count


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    found = MemoryWorld(tmp_path, gates=(ERRORS, TOOLS)).serve()
    found.on_answer = counting(found, {})
    return found


def newest(w: MemoryWorld) -> Evidence:
    return Evidence.objects.filter(rollout=w.rollout).order_by("-index")[0]


def tools(w: MemoryWorld) -> Mapping[str, object]:
    found: Mapping[str, object] = next(one for one in w.rollout.verdicts["verdicts"] if one["key"] == "tools")
    return found


def test_candidate_with_a_worse_share__is_rolled_back_by_that_gate_and_replays(w: MemoryWorld) -> None:
    w.on_answer = counting(w, {2: 0.6})
    w.start(2)
    rollout = w.run_to("rolled-back")
    assert rollout.cause == "gate:tools"
    assert "Failed tool calls is worse" in rollout.cause_sentence
    assert "of the candidate's events were bad" in rollout.cause_sentence
    assert replay_whole(rollout=rollout).outcome == "identical"
    assert w.lost == 0


def test_candidate_that_is_as_good__passes_and_is_promoted(w: MemoryWorld) -> None:
    w.start(2)
    rollout = w.run_to("succeeded")
    assert tools(w)["verdict"] == "pass"
    assert replay_whole(rollout=rollout).outcome == "identical"


def test_candidate_whose_series_are_absent__never_passes_and_says_which(w: MemoryWorld) -> None:
    count = counting(w, {})
    w.on_answer = lambda response: count(response) if version_of(response.answered) == 1 else None
    w.start(2, plan=replace(PLAN, deadline_seconds=40))
    w.run_for(60)
    assert w.rollout.phase != "succeeded"
    assert tools(w)["verdict"] == "no_data"
    name = w.variant(2).name
    assert f"candidate: its bad_query has no fresh series of {name}" in str(tools(w)["sentence"])
    assert {"bad": 0, "total": 0}.items() not in newest(w).interval["arms"]["candidate"].get(
        "asked", {}
    ).values()


def test_source_that_cannot_be_asked__holds_and_other_gates_go_on(w: MemoryWorld) -> None:
    class Refuses(MemorySignals):
        def read_counters(
            self, questions: Collection[CounterQuestion]
        ) -> Mapping[CounterQuestion, CounterAnswer]:
            raise Unavailable("Prometheus did not answer within 2 s.")

    w.world = replace(w.world, signals=Refuses(w.router))
    w.start(2)
    w.run(lambda: w.rollout.phase == "progressing" and w.rollout.next_interval >= 8)
    verdicts = {one["key"]: one["verdict"] for one in w.rollout.verdicts["verdicts"]}
    assert verdicts["tools"] == "no_data"
    assert verdicts["errors"] != "no_data"
    assert "Prometheus did not answer within 2 s" in str(tools(w)["sentence"])


def test_engine_that_restarts__takes_nothing_that_it_counted_for_new(w: MemoryWorld) -> None:
    w.start(2)
    w.run(lambda: w.rollout.phase == "progressing" and w.rollout.next_interval >= 6)
    before = w.rollout.next_interval
    engine = w.engine(2)
    engine.started_at += 1
    engine.counted = {BAD: 500, ALL: 500}  # more than it had: without its start this would be a jump
    w.on_answer = None
    w.run(lambda: w.rollout.next_interval >= before + 3)
    rows = Evidence.objects.filter(rollout=w.rollout, index__gte=before)
    seen = [counts for row in rows for counts in row.interval["arms"]["candidate"]["asked"].values()]
    assert all(counts.get("bad", 0) < 500 for counts in seen)
    assert any("could not be counted" in counts.get("why", "") for counts in seen)


def test_bandit__arm_with_a_worse_share__leaves_by_its_guardrail(w: MemoryWorld) -> None:
    w.on_answer = counting(w, {2: 0.7})
    w.start(2, others=(3,), plan=BANDIT)
    w.run(lambda: w.arm(2).dropped_at is not None)
    assert w.arm(2).dropped_cause == "guardrail"
    assert "Failed tool calls is worse" in w.arm(2).dropped_sentence
    assert w.arm(3).dropped_at is None


def test_asked__once_an_interval_for_both_arms_together(w: MemoryWorld) -> None:
    w.start(2)
    w.run(lambda: w.rollout.phase == "progressing" and w.rollout.next_interval >= 2)
    first = w.rollout.next_interval
    w.calls.names.clear()
    w.run(lambda: w.rollout.next_interval >= first + 4)
    assert w.calls.names.count("signals.read_counters") == 4


def test_policy_that_cannot_be_read__ends_its_own_turn_and_no_other(w: MemoryWorld) -> None:
    w.start(2)
    w.run(lambda: w.rollout.phase == "progressing" and w.rollout.next_interval >= 2)
    (rows,) = read_rows([w.endpoint_id], now=w.now)
    assert rows.rollout is not None
    rows.rollout.gate_policy.body = {"gates": [{}]}
    readings: Mapping[str, SignalReading | str] = {"triage": SignalReading(1.0, {}), "other": "away"}
    assert with_own_counters(readings, [rows], w.world) == readings


def test_policy_without_such_a_gate__nothing_is_asked(tmp_path: Path) -> None:
    w = MemoryWorld(tmp_path, gates=(ERRORS,)).serve()
    w.start(2)
    w.run_to("succeeded")
    assert "signals.read_counters" not in w.calls.names
