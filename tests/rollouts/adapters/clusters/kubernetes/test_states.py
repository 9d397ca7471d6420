"""Pods that were made from an earlier state of their workload."""

from __future__ import annotations

from typing import Any

import pytest

from rollouts.adapters.clusters.kubernetes.diagnosis import workload_of
from rollouts.adapters.clusters.kubernetes.pod_reading import sight_of
from rollouts.adapters.clusters.kubernetes.states import MIXED, MOST_STATES, PodStates

ASKED, CHANGED = "asked", "changed"


def workload(template: str, generation: int = 1, **more: Any) -> dict[str, Any]:
    counts = dict.fromkeys(("replicas", "updatedReplicas", "availableReplicas"), 1)
    status = {**counts, "observedGeneration": generation, **more.pop("status", {})}
    return {
        "kind": "Deployment",
        "metadata": {"uid": "u1", "generation": generation, **more},
        "spec": {"replicas": 1, "template": {"args": template}},
        "status": status,
    }


def pod(state: str, *, phase: str = "Running", **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": state, "labels": {"pod-template-hash": state}, **metadata},
        "status": {"phase": phase},
    }


def mixed(states: PodStates, raw: dict[str, Any], *pods: dict[str, Any]) -> str:
    return states.mixed("chat", raw, workload_of(raw), [sight_of(one) for one in pods])


@pytest.fixture
def states() -> PodStates:
    """What was launched was settled, and then what somebody made of it."""
    found = PodStates()
    assert mixed(found, workload(ASKED), pod("aaa")) == ""
    assert mixed(found, workload(CHANGED, 2), pod("bbb")) == ""
    return found


STOPPING = "2026-01-01T00:00:00Z"
NONE_LEFT = {"replicas": 0, "updatedReplicas": 0, "availableReplicas": 0}
GAPS = [
    (workload(ASKED, 3, status={"observedGeneration": 2}), pod("bbb")),
    (workload(ASKED, 3, status={"updatedReplicas": 0}), pod("bbb")),
    (workload(ASKED, 3, status=NONE_LEFT), pod("bbb", deletionTimestamp=STOPPING)),
]


@pytest.mark.parametrize(("raw", "there"), GAPS, ids=["not seen yet", "seen", "last one is stopped"])
def test_mixed__change_undone_and_no_new_pod_yet__is_said(
    states: PodStates, raw: dict[str, Any], there: dict[str, Any]
) -> None:
    assert mixed(states, raw, there) == MIXED


def test_mixed__undone_before_the_pod_of_the_change_was_ready__is_said() -> None:
    """Nobody saw of which state that pod is; but which pods those of this state are was seen."""
    states = PodStates()
    assert mixed(states, workload(ASKED), pod("aaa")) == ""
    assert mixed(states, workload(ASKED, 3, status=NONE_LEFT), pod("bbb")) == MIXED


def test_mixed__settled_with_another_hash_of_the_same_state__counts_from_then_on(states: PodStates) -> None:
    assert mixed(states, workload(ASKED, 3), pod("ddd")) == ""
    assert mixed(states, workload(ASKED, 3, status=NONE_LEFT), pod("ddd")) == ""


def test_mixed__last_pod_of_the_change_has_ended__is_not_said(states: PodStates) -> None:
    assert mixed(states, workload(ASKED, 3), pod("bbb", phase="Succeeded"), pod("aaa")) == ""


def test_mixed__scaled__is_no_other_state(states: PodStates) -> None:
    raw = workload(CHANGED, 3, status={"observedGeneration": 2})
    raw["spec"]["replicas"] = 2
    assert mixed(states, raw, pod("bbb")) == ""


def test_mixed__workload_was_made_anew__knows_nothing_of_before(states: PodStates) -> None:
    raw = workload(ASKED, uid="u2", status=NONE_LEFT)
    assert mixed(states, raw, pod("bbb")) == ""


def test_mixed__settled_though_it_was_seen_otherwise__counts_from_then_on(states: PodStates) -> None:
    assert mixed(states, workload(ASKED, 3), pod("bbb")) == ""


def test_mixed__while_it_is_not_settled__learns_nothing() -> None:
    states = PodStates()
    assert mixed(states, workload(ASKED, 1, status={"availableReplicas": 0}), pod("aaa")) == ""
    assert mixed(states, workload(CHANGED, 2), pod("aaa")) == ""


@pytest.mark.parametrize("status", [{"observedGeneration": None}, {"observedGeneration": 1}])
def test_mixed__controller_does_not_say_what_it_saw__learns_nothing(status: dict[str, Any]) -> None:
    states = PodStates()
    assert mixed(states, workload(ASKED, 2, status=status), pod("aaa")) == ""
    assert mixed(states, workload(CHANGED, 3, status=NONE_LEFT), pod("aaa")) == ""


def test_mixed__controller_that_labels_nothing__is_not_said(states: PodStates) -> None:
    assert mixed(states, workload(ASKED, 3), {"metadata": {"name": "p"}, "status": {}}) == ""


def test_forget_others__variant_is_gone__is_not_remembered(states: PodStates) -> None:
    states.forget_others(())
    assert mixed(states, workload(ASKED, 3, status=NONE_LEFT), pod("bbb")) == ""


def test_mixed__changed_very_often__remembers_the_newest_states_only(states: PodStates) -> None:
    for number in range(MOST_STATES):
        mixed(states, workload(f"another {number}", number + 3), pod(f"c{number}"))
    assert mixed(states, workload(ASKED, 99, status=NONE_LEFT), pod("bbb")) == ""
