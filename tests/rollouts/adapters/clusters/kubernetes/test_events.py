"""Whose pods a cluster's events say it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from rollouts.adapters.clusters.kubernetes.events import refused_pods, warning_in

QUOTA = 'pods "chat-0-1" is forbidden: exceeded quota: gpu'
NINE, TEN, ELEVEN = (f"2026-01-01T{hour:02}:00:00Z" for hour in (9, 10, 11))
TOLD = f"No pod can be made since 2026-01-01 09:00 UTC: {QUOTA}"


def event(kind: str, name: str, *, reason: str = "FailedCreate", **more: Any) -> dict[str, Any]:
    uid = {"uid": more.pop("uid")} if "uid" in more else {}
    return {
        "type": "Warning",
        "reason": reason,
        "involvedObject": {"kind": kind, "name": name, **uid},
        "message": QUOTA,
        "firstTimestamp": NINE,
        "lastTimestamp": TEN,
        "metadata": {"creationTimestamp": NINE},
        **more,
    }


def workload(kind: str, name: str = "chat", made_at: str = NINE) -> dict[str, Any]:
    return {name: {"kind": kind, "metadata": {"name": name, "uid": "u1", "creationTimestamp": made_at}}}


def a_pod(made_at: str, kind: str, owner: str) -> dict[str, Any]:
    owners = [{"kind": kind, "name": owner, "controller": True}]
    return {"metadata": {"name": "p", "creationTimestamp": made_at, "ownerReferences": owners}}


def told_of(
    one: dict[str, Any], workloads: dict[str, Any], pods: tuple[dict[str, Any], ...] = ()
) -> dict[str, str]:
    warning = warning_in(one)
    return refused_pods([] if warning is None else [warning], workloads, {"chat": pods})


@pytest.mark.parametrize(
    ("kind", "name", "owner"),
    [
        ("ReplicaSet", "chat-5d9c7bf8", "Deployment"),
        ("Deployment", "chat", "Deployment"),
        ("StatefulSet", "chat", "LeaderWorkerSet"),
        ("StatefulSet", "chat-0", "LeaderWorkerSet"),
        ("LeaderWorkerSet", "chat", "LeaderWorkerSet"),
    ],
)
def test_refused__who_makes_the_pods__is_told_of_their_workload(kind: str, name: str, owner: str) -> None:
    assert told_of(event(kind, name), workload(owner)) == {"chat": TOLD}


@pytest.mark.parametrize(
    ("kind", "name", "owner"),
    [
        ("ReplicaSet", "chat-5d9c7bf8", "LeaderWorkerSet"),
        ("ReplicaSet", "chat-v2-5d9c7bf8", "Deployment"),
        ("ReplicaSet", "chat", "Deployment"),
        ("StatefulSet", "chat", "Deployment"),
        ("StatefulSet", "chat-db", "LeaderWorkerSet"),
        ("StatefulSet", "other-0", "LeaderWorkerSet"),
        ("DaemonSet", "chat", "Deployment"),
    ],
)
def test_refused__of_somebody_else__is_not_told(kind: str, name: str, owner: str) -> None:
    assert told_of(event(kind, name), workload(owner)) == {}


def test_refused__of_a_group_whose_name_ends_in_a_number__is_its_own() -> None:
    both = workload("LeaderWorkerSet") | workload("LeaderWorkerSet", "chat-1")
    assert told_of(event("StatefulSet", "chat-1"), both) == {"chat-1": TOLD}


def test_warning__of_another_reason_about_who_makes_pods__is_not_told() -> None:
    assert told_of(event("ReplicaSet", "chat-5d9c", reason="FailedDelete"), workload("Deployment")) == {}


def test_event__that_warns_of_nothing__is_not_told() -> None:
    assert told_of(event("ReplicaSet", "chat-5d9c", type="Normal"), workload("Deployment")) == {}


def test_refused__before_the_workload_was_made__is_of_an_earlier_one() -> None:
    assert told_of(event("StatefulSet", "chat"), workload("LeaderWorkerSet", made_at=ELEVEN)) == {}


def test_refused__of_a_group_with_another_uid__is_of_an_earlier_one() -> None:
    assert told_of(event("LeaderWorkerSet", "chat", uid="u0"), workload("LeaderWorkerSet")) == {}


def test_refused__made_a_pod_since__is_over() -> None:
    pods = (a_pod(ELEVEN, "StatefulSet", "chat-0"),)
    assert told_of(event("StatefulSet", "chat-0"), workload("LeaderWorkerSet"), pods) == {}


@pytest.mark.parametrize(
    "pod",
    [a_pod(TEN, "StatefulSet", "chat-0"), a_pod(ELEVEN, "StatefulSet", "chat"), {"metadata": {}}, {}],
    ids=["as old", "of another", "odd", "empty"],
)
def test_refused__no_younger_pod_of_its_own__is_told(pod: dict[str, Any]) -> None:
    assert told_of(event("StatefulSet", "chat-0"), workload("LeaderWorkerSet"), (pod,)) == {"chat": TOLD}


@pytest.mark.parametrize("odd", [{}, {"type": "Warning"}, {"type": "Warning", "involvedObject": 7}])
def test_event__odd__warns_of_nothing(odd: dict[str, Any]) -> None:
    assert warning_in(odd) is None
