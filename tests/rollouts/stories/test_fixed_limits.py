"""Gates with a fixed limit, in whole rollouts: a hot candidate goes back, and what is absent decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from rollouts.adapters.routers.memory import MemoryResponse
from rollouts.models import Evidence
from rollouts.services.evidence.replay import replay_whole
from tests.rollouts.memory_world import BANDIT, ERRORS, PLAN, MemoryWorld, version_of

pytestmark = [pytest.mark.story, pytest.mark.django_db]

QUERY = 'max(DCGM_FI_DEV_GPU_TEMP{namespace="{{namespace}}",pod=~"{{pods}}"})'
HEAT = {
    "key": "heat",
    "label": "GPU temperature",
    "kind": "metric_limit",
    "query": QUERY,
    "limit": 85,
    "direction": "at_most",
    "fail_readings": 4,
    "pass_readings": 6,
    "weight": 0.0,
}
TESTED = {**ERRORS, "weight": 1.0}


def heating(w: MemoryWorld, degrees: Mapping[int, float]) -> Callable[[MemoryResponse], None]:
    """Every engine that answers has a GPU of so many degrees, by version; 70 where none is said."""

    def heat(response: MemoryResponse) -> None:
        if response.answered:
            engine = w.router.engine(response.answered)
            engine.numbers[QUERY] = degrees.get(version_of(response.answered), 70.0)

    return heat


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    found = MemoryWorld(tmp_path, gates=(TESTED, HEAT)).serve()
    found.on_answer = heating(found, {})
    return found


def heat_of(w: MemoryWorld) -> Mapping[str, object]:
    found: Mapping[str, object] = next(one for one in w.rollout.verdicts["verdicts"] if one["key"] == "heat")
    return found


def test_candidate_that_gets_hot__is_rolled_back_by_that_gate_and_replays(w: MemoryWorld) -> None:
    w.on_answer = heating(w, {2: 90.2})
    w.start(2)
    rollout = w.run_to("rolled-back")
    assert rollout.cause == "gate:heat"
    assert rollout.cause_sentence == (
        "GPU temperature was above 85 in 4 readings in a row (90.2 at the last): rolled back. "
        "A fixed limit, no test of chance."
    )
    assert replay_whole(rollout=rollout).outcome == "identical"
    assert w.lost == 0


def test_candidate_that_stays_cool__passes_and_is_promoted(w: MemoryWorld) -> None:
    w.start(2)
    rollout = w.run_to("succeeded")
    assert heat_of(w)["verdict"] == "pass"
    assert replay_whole(rollout=rollout).outcome == "identical"


def test_candidate_that_gets_hot_after_it_was_promoted__goes_back_within_the_watch(w: MemoryWorld) -> None:
    w.start(2)
    w.run_to("succeeded")
    assert w.rollout.watching
    w.on_answer = heating(w, {2: 95.0})
    w.run(lambda: w.rollout.phase == "rolled-back")
    rollout = w.rollout
    assert rollout.cause == "gate:heat"
    assert replay_whole(rollout=rollout).outcome == "identical"


def test_candidate_whose_number_is_absent__never_passes_and_says_which(w: MemoryWorld) -> None:
    heat = heating(w, {})
    w.on_answer = lambda response: heat(response) if version_of(response.answered) == 1 else None
    w.start(2, plan=replace(PLAN, deadline_seconds=40))
    w.run_for(60)
    assert w.rollout.phase not in ("succeeded", "rolled-back")
    assert heat_of(w)["verdict"] == "no_data"
    name = w.variant(2).name
    assert heat_of(w)["sentence"] == (
        f"GPU temperature has no data: candidate: its query has no fresh series of {name}."
    )


def test_source_away__fails_nothing_and_the_row_goes_on_behind_it(w: MemoryWorld) -> None:
    w.on_answer = heating(w, {2: 90.0})
    w.start(2)
    w.run(lambda: w.rollout.verdicts and heat_of(w)["n_candidate"] == 2)
    w.signals.outage = "connection refused"
    w.run_for(120)
    assert w.rollout.phase == "progressing"
    assert heat_of(w)["verdict"] == "error"
    w.signals.outage = ""
    rollout = w.run_to("rolled-back")
    assert rollout.cause == "gate:heat"
    hot = [
        read["value"]
        for row in Evidence.objects.filter(rollout=rollout)
        for read in row.interval["arms"].get("candidate", {}).get("numbers", {}).values()
        if "value" in read
    ]
    assert len(hot) >= 4
    assert replay_whole(rollout=rollout).outcome == "identical"


def test_bandit__arm_that_gets_hot__leaves_by_its_guardrail(w: MemoryWorld) -> None:
    w.on_answer = heating(w, {2: 90.0})
    w.start(2, others=(3,), plan=BANDIT)
    w.run(lambda: w.arm(2).dropped_at is not None)
    assert w.arm(2).dropped_cause == "guardrail"
    assert "GPU temperature was above 85 in 4 readings in a row" in w.arm(2).dropped_sentence
    assert w.arm(3).dropped_at is None


def test_asked__with_counters_of_other_gates__in_one_question_an_interval(w: MemoryWorld) -> None:
    w.start(2)
    w.run(lambda: w.rollout.phase == "progressing" and w.rollout.next_interval >= 2)
    first = w.rollout.next_interval
    w.calls.names.clear()
    w.run(lambda: w.rollout.next_interval >= first + 4)
    assert w.calls.names.count("signals.read_counters") == 4
