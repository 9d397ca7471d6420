"""One interval of evidence: what was counted, what is missing and why, and nothing that stops the loop."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from controlplane.kernel.clock import ManualClock
from rollouts.domain.engines import FailureReason, WorkloadPhase
from rollouts.domain.record.counters import Difference
from rollouts.domain.record.intervals import ArmCounts, Outcomes
from rollouts.models import Arm, ProbeResult, Rollout
from rollouts.ports import ObservedRoute, WorkloadStatus
from rollouts.services.loop.measure import LONGEST_INTERVAL, Measured, measure_rollout
from rollouts.services.loop.observe import Observation
from rollouts.services.loop.past import Past, read_pasts
from rollouts.services.loop.views import view_of
from rollouts.services.world import World
from tests import factories
from tests.rollouts.worlds import world_in_memory

pytestmark = pytest.mark.django_db
NOW = factories.right_now()
BEGAN = NOW.timestamp() - 5
OF_ARMS = ArmCounts(10, 0, 10, 1.0, outcomes=Outcomes(answered=10))


@pytest.fixture
def rollout() -> Rollout:
    """Its last interval ended 5 s ago, at 5 %."""
    return factories.rollout_progressing(step=0, intervals=4, now=NOW - timedelta(seconds=5))


@pytest.fixture
def world() -> World:
    return world_in_memory(ManualClock(NOW), interval_seconds=5.0)


def counted(rollout: Rollout, **changes: Any) -> Difference:
    """5 s in which each arm had 10 requests."""
    arms = {rollout.baseline.name: OF_ARMS, rollout.candidate.name: OF_ARMS}
    made = Difference(BEGAN, 5.0, arms, {}, {}, {})
    return replace(made, **changes)


def seen(rollout: Rollout, made: Difference | None, **changes: Any) -> Observation:
    shares = {rollout.baseline.name: 7_500, rollout.candidate.name: 2_500}
    route = ObservedRoute("triage", shares, frozenset())
    return Observation(**{"statuses": {}, "route": route, "route_known": True, "difference": made, **changes})


def measure(
    rollout: Rollout, world: World, observation: Observation, past: Past | None = None
) -> Measured | None:
    rows = list(Arm.objects.filter(rollout=rollout).select_related("variant__version").order_by("pk"))
    return measure_rollout(
        rollout=rollout, view=view_of(rollout, rows), arm_rows=rows, past=past or Past(), seen=observation,
        world=world, now=NOW,
    )  # fmt: skip


def interval_of(rollout: Rollout, world: World, observation: Observation, past: Past | None = None) -> Any:
    made = measure(rollout, world, observation, past)
    assert made is not None
    return made.interval


def test_interval__of_counters__has_their_times_counts_and_the_shares_that_the_router_showed(
    rollout: Rollout, world: World
) -> None:
    found = interval_of(rollout, world, seen(rollout, counted(rollout)))
    assert (found.index, found.started_at, found.seconds) == (rollout.next_interval, BEGAN, 5.0)
    assert {name: counts.requests for name, counts in found.arms.items()} == {"baseline": 10, "candidate": 10}
    assert (found.share_bp, dict(found.shares)) == (2_500, {"baseline": 7_500, "candidate": 2_500})
    assert (dict(found.missing), dict(found.broken)) == ({}, {})


def test_interval__router_was_not_read__has_the_shares_that_were_seen_last(
    rollout: Rollout, world: World
) -> None:
    rollout.endpoint.observed_shares = {rollout.candidate.name: 1_200}
    found = interval_of(rollout, world, seen(rollout, counted(rollout), route=None))
    assert dict(found.shares) == {"baseline": 0, "candidate": 1_200}


def test_counters_cannot_be_read__before_an_interval_has_passed__there_is_none(
    rollout: Rollout, world: World
) -> None:
    unread = seen(rollout, None, problems={"signals": "It does not answer."})
    assert measure(rollout, replace(world, interval_seconds=6.0), unread) is None


def test_counters_cannot_be_read__after_an_interval__one_row_says_so_and_nothing_was_counted(
    rollout: Rollout, world: World
) -> None:
    unread = seen(rollout, None, problems={"signals": "It does not answer."})
    found = interval_of(rollout, world, unread)
    assert (dict(found.broken), dict(found.arms)) == ({"router": "It does not answer."}, {})
    assert found.seconds == pytest.approx(5.0)


def test_arm__nothing_was_said_of_it__is_missing_with_the_name_of_its_series(
    rollout: Rollout, world: World
) -> None:
    made = counted(rollout, arms={rollout.baseline.name: OF_ARMS})
    found = interval_of(rollout, world, seen(rollout, made))
    assert dict(found.missing) == {"candidate": f"no fresh series of {rollout.candidate.name}"}


def test_arm__counter_went_down__is_missing_with_that_reason(rollout: Rollout, world: World) -> None:
    made = counted(
        rollout,
        arms={rollout.baseline.name: OF_ARMS},
        missing={rollout.candidate.name: "a counter went down"},
    )
    assert dict(interval_of(rollout, world, seen(rollout, made)).missing) == {
        "candidate": "a counter went down"
    }


def test_arm__that_a_person_took_out__is_not_missing_and_one_whose_engine_failed_is(
    rollout: Rollout, world: World
) -> None:
    made = counted(rollout, arms={rollout.baseline.name: OF_ARMS})
    for cause, missing in (("person", {}), ("workload", {"candidate": "No memory."})):
        Arm.objects.filter(name="candidate").update(
            dropped_at=NOW, dropped_cause=cause, dropped_sentence="No memory."
        )
        found = interval_of(rollout, world, seen(rollout, made))
        assert (dict(found.missing), found.dropped) == (missing, ("candidate",))


def test_counts__that_cannot_be__are_left_out_and_stop_nothing(rollout: Rollout, world: World) -> None:
    impossible = ArmCounts(5, 9, 5, 1.0)
    made = counted(rollout, arms={rollout.baseline.name: OF_ARMS, rollout.candidate.name: impossible})
    found = measure(rollout, world, seen(rollout, made))
    assert found is not None
    assert dict(found.interval.arms) == {}
    assert found.interval.broken["router"].startswith("impossible counts: ")
    assert found.assessment is not None


@pytest.mark.parametrize(("lasted", "seconds"), [(1e9, LONGEST_INTERVAL), (1e-9, 0.001)])
def test_interval__of_any_length__is_one_that_a_gate_takes(
    rollout: Rollout, world: World, lasted: float, seconds: float
) -> None:
    assert interval_of(rollout, world, seen(rollout, counted(rollout, seconds=lasted))).seconds == seconds


def probe(rollout: Rollout, number: int, **changes: Any) -> None:
    golden = rollout.endpoint.golden_set
    assert golden is not None
    ProbeResult.objects.create(
        **{
            "rollout": rollout,
            "number": number,
            "example": golden.examples.all()[number],
            "asked_at": NOW,
            **changes,
        }
    )


def test_probes__some_got_no_answer__the_others_are_pairs_and_all_are_used(
    rollout: Rollout, world: World
) -> None:
    probe(rollout, 3, score_baseline=1.0, score_candidate=0.0)
    probe(rollout, 4, problem="v2 did not answer.")
    past = read_pasts([rollout], ripe_before=NOW)[rollout.pk]
    made = measure(rollout, world, seen(rollout, counted(rollout)), replace(past, rated=None))
    assert made is not None
    (pair,) = made.interval.pairs["candidate"]
    assert (pair.score_baseline, pair.score_candidate) == (1.0, 0.0)
    assert len(made.used_probes) == 2
    assert "probes" not in made.interval.missing


def test_probes__none_got_an_answer__says_why(rollout: Rollout, world: World) -> None:
    probe(rollout, 4, problem="v2 did not answer.")
    past = read_pasts([rollout], ripe_before=NOW)[rollout.pk]
    found = interval_of(rollout, world, seen(rollout, counted(rollout)), replace(past, rated=None))
    assert found.missing["probes"] == "v2 did not answer."


@pytest.mark.parametrize(("started", "harm"), [(-60.0, (0, 0)), (60.0, (3, 1))], ids=["before", "since"])
def test_workload__restarts_of_a_process_from_before_the_rollout__are_history(
    rollout: Rollout, world: World, started: float, harm: tuple[int, int]
) -> None:
    status = WorkloadStatus(
        rollout.candidate.name, WorkloadPhase.READY, ready=1, desired=1, restarts=3,
        started_at=rollout.created_at.timestamp() + started, reason=FailureReason.NO_MEMORY,
    )  # fmt: skip
    made = measure(rollout, world, seen(rollout, counted(rollout), statuses={status.variant: status}))
    assert made is not None
    facts = made.workload["candidate"]
    assert (facts.candidate_restarts, facts.candidate_oom_kills) == harm


def test_measure__same_interval_twice__comes_out_the_same(rollout: Rollout, world: World) -> None:
    first, second = (measure(rollout, world, seen(rollout, counted(rollout))) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.analysis.to_json() == second.analysis.to_json()
