"""What a cluster is asked for beside what was decided: launches that it lost, and whether it may take replicas away."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from rollouts.domain.engines import WorkloadPhase
from rollouts.domain.lifecycle.decision import RolloutView
from rollouts.domain.lifecycle.effects import AnyEffect, DrainWorkload, EnsureWorkload, HoldScaleIn
from rollouts.models import Effect, EffectState, Endpoint, Rollout, Variant, Workload
from rollouts.ports import WorkloadStatus
from rollouts.services.loop.converging import converge_workloads, due_of_workloads, relaunch_lost
from rollouts.services.loop.observe import NOTHING_SEEN, Observation
from rollouts.services.loop.views import view_of
from tests import factories

NOW = factories.right_now()


def workload(name: str, phase: str = "ready", *, wanted: bool = True) -> Workload:
    return Workload(variant=Variant(name=name), phase=phase, wanted=wanted)


def ready(name: str, *, scale_in_held: bool | None = None) -> WorkloadStatus:
    return WorkloadStatus(name, WorkloadPhase.READY, scale_in_held=scale_in_held)


def seen(*workloads: Workload, known: tuple[WorkloadStatus, ...] = ()) -> Observation:
    return Observation({one.variant: one for one in known}, None, route_known=True, workloads=workloads)


def asked(effect: AnyEffect, **changes: Any) -> Effect:
    return Effect(kind=effect.kind, payload=effect.to_json(), **changes)


def test_due__cluster_does_not_answer__is_nothing() -> None:
    assert due_of_workloads(None, NOTHING_SEEN, ()) == ()


@pytest.mark.parametrize(
    ("ours", "known"),
    [
        (workload("v1"), (ready("v1"),)),
        (workload("v1"), (WorkloadStatus("v1", WorkloadPhase.FAILED),)),
        (workload("v1", "failed"), ()),
        (workload("v1", wanted=False), ()),
    ],
    ids=["it runs", "it fails in the cluster", "it failed for good", "it is to end"],
)
def test_due__nothing_is_lost__no_launch_is_asked_for(
    ours: Workload, known: tuple[WorkloadStatus, ...]
) -> None:
    assert due_of_workloads(None, seen(ours, known=known), ()) == ()


@pytest.mark.parametrize(
    "known", [(), (WorkloadStatus("v1", WorkloadPhase.ABSENT),)], ids=["unknown", "absent"]
)
def test_due__cluster_lost_what_is_to_run__is_its_launch(known: tuple[WorkloadStatus, ...]) -> None:
    found = seen(workload("v1"), workload("v2"), known=(*known, ready("v2")))
    assert due_of_workloads(None, found, ()) == (EnsureWorkload("v1"),)


@pytest.mark.parametrize("effect", [EnsureWorkload("v1"), DrainWorkload("v1")], ids=["launch", "end"])
def test_due__launch_or_end_of_the_lost_is_under_way__is_not_asked_for_again(effect: AnyEffect) -> None:
    assert due_of_workloads(None, seen(workload("v1")), [asked(effect)]) == ()


def test_due__only_a_hold_of_its_scale_in_is_under_way__the_lost_is_launched_all_the_same() -> None:
    waiting = [asked(HoldScaleIn("v1", on=True))]
    assert due_of_workloads(None, seen(workload("v1")), waiting) == (EnsureWorkload("v1"),)


def test_due__nothing_is_compared_and_scale_in_is_held__lets_it_go_and_asks_once() -> None:
    found = seen(workload("v1"), known=(ready("v1", scale_in_held=True),))
    assert due_of_workloads(None, found, ()) == (HoldScaleIn("v1", on=False),)
    assert due_of_workloads(None, found, [asked(HoldScaleIn("v1", on=False))]) == ()


def test_due__variant_is_being_drained__its_scale_in_is_left_as_it_is() -> None:
    found = seen(workload("v1"), known=(ready("v1", scale_in_held=True),))
    assert due_of_workloads(None, found, [asked(DrainWorkload("v1"))]) == ()


def test_due__nothing_scales_it__is_nothing() -> None:
    assert due_of_workloads(None, seen(workload("v1"), known=(ready("v1"),)), ()) == ()


@pytest.fixture
def rollout(db: None) -> Rollout:
    return factories.rollout_pending(now=NOW)


def arms_seen(rollout: Rollout) -> tuple[RolloutView, Observation]:
    """The rollout as one whose arms are compared, and both arms as they run."""
    rollout.phase, rollout.phase_since = "progressing", NOW
    view = view_of(rollout)
    names = [arm.variant for arm in view.arms]
    assert len(names) == 2
    known = tuple(ready(name, scale_in_held=False) for name in names)
    return view, seen(*(workload(name) for name in names), known=known)


def test_due__arms_are_compared__holds_the_scale_in_of_each(rollout: Rollout) -> None:
    view, found = arms_seen(rollout)
    assert due_of_workloads(view, found, ()) == tuple(HoldScaleIn(arm.variant, on=True) for arm in view.arms)


def waiting_of(endpoint: Endpoint) -> list[tuple[str, dict[str, Any]]]:
    rows = Effect.objects.filter(endpoint=endpoint, state=EffectState.PENDING).order_by("pk")
    return [(row.kind, row.payload) for row in rows]


def test_converge__what_is_due__is_stored_once_however_often_it_is_asked_for(rollout: Rollout) -> None:
    view, found = arms_seen(rollout)
    Effect.objects.all().delete()
    for turn in range(3):
        converge_workloads(
            endpoint=rollout.endpoint, view=view, seen=found, now=NOW + timedelta(seconds=turn)
        )
    assert waiting_of(rollout.endpoint) == [
        ("hold-scale-in", {"variant": arm.variant, "on": True}) for arm in view.arms
    ]


def test_relaunch_lost__asks_for_the_launches_and_leaves_scale_in_alone(rollout: Rollout) -> None:
    Effect.objects.all().delete()
    found = seen(workload("v1"), workload("v2"), known=(ready("v2", scale_in_held=True),))
    relaunch_lost(endpoint=rollout.endpoint, seen=found, now=NOW)
    assert waiting_of(rollout.endpoint) == [("ensure-workload", {"variant": "v1"})]


def test_relaunch_lost__cluster_does_not_answer__asks_for_nothing(rollout: Rollout) -> None:
    Effect.objects.all().delete()
    relaunch_lost(endpoint=rollout.endpoint, seen=NOTHING_SEEN, now=NOW)
    assert waiting_of(rollout.endpoint) == []
