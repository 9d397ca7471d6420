"""What nodes, pods, quotas and limit ranges say."""

from __future__ import annotations

import random
from typing import Any

import pytest

from controlplane.kernel.errors import InvalidInput
from rollouts.adapters.clusters.kubernetes.supply_reading import (
    bounds_in,
    demand_in,
    fields_of,
    node_in,
    quota_in,
)
from rollouts.domain.capacity.nodes import Bound, Node, PodDemand, Quota, Taint
from tests.rollouts.adapters.clusters.kubernetes.cluster_objects import (
    GPU,
    container,
    raw_node,
    raw_pod,
    raw_quota,
    raw_range,
)


def node(**changes: Any) -> Node:
    return node_in(*fields_of(raw_node("gpu-1", **changes), "node"))


def pod(**spec: Any) -> PodDemand:
    fields, said = fields_of(raw_pod("chat", **spec), "pod")
    return demand_in(fields.needed("spec"), said)


def quota(priority_class: str = "", **given: Any) -> Quota | None:
    return quota_in(*fields_of(raw_quota(**given), "quota"), priority_class)


def asks(cpu: str, **more: Any) -> dict[str, Any]:
    return container(resources={"requests": {"cpu": cpu}}, **more)


# --- nodes ------------------------------------------------------------------------------------------------------------


def test_node__sound__is_read() -> None:
    found = node(
        labels={"pool": "gpu"}, spec={"taints": [{"key": GPU, "value": "present", "effect": "NoSchedule"}]}
    )
    assert (found.name, found.open, found.labels) == ("gpu-1", True, {"pool": "gpu"})
    assert found.allocatable[GPU] == 8_000
    assert found.allocatable["memory"] == 512 * 2**30 * 1_000
    assert found.taints == (Taint(GPU, "present", "NoSchedule"),)


@pytest.mark.parametrize(
    "changes",
    [
        {"spec": {"unschedulable": True}},
        {"conditions": [{"type": "Ready", "status": "False"}]},
        {"conditions": [{"type": "Ready", "status": "Unknown"}]},
        {"conditions": []},
    ],
)
def test_node__not_ready_or_cordoned__takes_no_pods(changes: dict[str, Any]) -> None:
    assert not node(**changes).open


@pytest.mark.parametrize(
    "changes",
    [
        {"allocatable": {"cpu": "-8"}},
        {"allocatable": {"cpu": "NaN"}},
        {"allocatable": "all"},
        {"conditions": {}},
        {"spec": {"taints": [{"effect": "NoSchedule"}]}},
        {"spec": {"taints": ["no"]}},
        {"spec": {"unschedulable": "yes"}},
        {"labels": {"pool": ["gpu"]}},
    ],
)
def test_node__odd__is_refused_with_its_name(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="the node gpu-1"):
        node(**changes)


# --- pods -------------------------------------------------------------------------------------------------------------


def test_pod__containers__are_added_up() -> None:
    assert pod(containers=[asks("1"), asks("500m")]).requests == {"cpu": 1_500}


def test_pod__init_containers__count_where_they_ask_for_more() -> None:
    assert pod(containers=[asks("1")], initContainers=[asks("3"), asks("2")]).requests == {"cpu": 3_000}
    assert pod(containers=[asks("4")], initContainers=[asks("3")]).requests == {"cpu": 4_000}


def test_pod__init_containers_that_go_on__count_beside_the_others_and_beside_later_ones() -> None:
    beside = asks("1", restartPolicy="Always")
    assert pod(containers=[asks("1")], initContainers=[beside]).requests == {"cpu": 2_000}
    assert pod(containers=[asks("1")], initContainers=[beside, asks("3")]).requests == {"cpu": 4_000}
    assert pod(containers=[asks("1")], initContainers=[asks("3"), beside]).requests == {"cpu": 3_000}


def test_pod__overhead_and_resources_of_the_whole__count() -> None:
    found = pod(containers=[asks("1")], overhead={"cpu": "250m"}, resources={"requests": {"cpu": "6"}})
    assert found.requests == {"cpu": 6_250}


def test_pod__limit_without_request__asks_for_the_limit() -> None:
    found = pod(containers=[container(resources={"limits": {GPU: "2"}})])
    assert (found.requests, found.limits) == ({GPU: 2_000}, {GPU: 2_000})


@pytest.mark.parametrize(
    "spec",
    [
        {"containers": "all"},
        {"containers": [7]},
        {"containers": [asks("-1")]},
        {"containers": [container(resources=[])]},
        {"overhead": {"cpu": {}}},
        {"initContainers": [asks("1e99")]},
    ],
)
def test_pod__odd__is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="the pod chat"):
        pod(**spec)


# --- the namespace ----------------------------------------------------------------------------------------------------


def test_quota__with_something_used__says_what_is_left() -> None:
    found = quota(hard={f"requests.{GPU}": "8", "pods": "10"}, used={f"requests.{GPU}": "6"})
    assert found == Quota("team", {f"requests.{GPU}": 2_000, "pods": 10_000})


def test_quota__lowered_below_what_is_used__is_overdrawn() -> None:
    found = quota(hard={"pods": "1"}, used={"pods": "3"})
    assert found is not None
    assert found.left == {"pods": -2_000}


def rule(scope: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"scopeName": scope, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("spec", "counts"),
    [
        ({"scopes": ["NotTerminating"]}, True),
        ({"scopes": ["NotBestEffort"]}, True),
        ({"scopes": ["Terminating"]}, False),
        ({"scopes": ["BestEffort"]}, False),
        ({"scopes": ["OfTomorrow"]}, True),
        ({"scopeSelector": rule("PriorityClass", "In", "high", "llm")}, True),
        ({"scopeSelector": rule("PriorityClass", "In", "high")}, False),
        ({"scopeSelector": rule("PriorityClass", "NotIn", "llm")}, False),
        ({"scopeSelector": rule("PriorityClass", "Exists")}, True),
        ({"scopeSelector": rule("PriorityClass", "DoesNotExist")}, False),
        ({"scopeSelector": rule("Terminating", "Exists")}, False),
        ({"scopeSelector": rule("NotTerminating", "DoesNotExist")}, False),
        ({"scopeSelector": rule("OfTomorrow", "Exists")}, True),
    ],
)
def test_quota__with_scopes__counts_where_engines_are_in_them(spec: dict[str, Any], counts: bool) -> None:
    assert (quota("llm", hard={"pods": "1"}, **spec) is not None) is counts


def test_range__of_containers_and_pods__is_read() -> None:
    raw = raw_range(
        {
            "type": "Container",
            "min": {"cpu": "100m"},
            "max": {"cpu": "4"},
            "default": {"memory": "1Gi"},
            "defaultRequest": {"cpu": "200m"},
        },
        {"type": "Pod", "max": {"cpu": "8"}, "maxLimitRequestRatio": {"cpu": "1.5", "memory": "2"}},
        {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}},
    )
    assert list(bounds_in(*fields_of(raw, "limit range"))) == [
        Bound("range", "cpu", 100, 4_000, usual_request=200),
        Bound("range", "memory", usual=2**30 * 1_000),
        Bound("range", "cpu", most=8_000, of_pod=True, ratio=1_500),
        Bound("range", "memory", of_pod=True, ratio=2_000),
    ]


def test_random_objects__are_read_or_refused_and_never_anything_else() -> None:
    """Whatever stands in the place of any field, only InvalidInput leaves a reader."""
    chance = random.Random(11)
    odd: list[Any] = [
        None,
        True,
        0,
        -1,
        1.5,
        float("nan"),
        "",
        "8",
        "x" * 9_000,
        [],
        {},
        [{}],
        {"a": 1},
        [[]],
        {"cpu": "1"},
    ]
    read = refused = 0
    for _ in range(3_000):
        kind, raw = chance.choice(
            [
                ("node", raw_node("a", spec={"taints": [{"key": "k", "effect": "NoSchedule"}]})),
                ("pod", raw_pod("a", "n", initContainers=[asks("1")], overhead={"cpu": "1"})),
                ("quota", raw_quota(hard={"pods": "1"}, scopeSelector=rule("PriorityClass", "In", "a"))),
                ("limit range", raw_range({"type": "Container", "max": {"cpu": "1"}})),
            ]
        )
        spoil(raw, chance, odd)
        fields, said = fields_of(raw, kind)
        try:
            match kind:
                case "node":
                    node_in(fields, said)
                case "pod":
                    demand_in(fields.needed("spec"), said)
                case "quota":
                    quota_in(fields, said, "a")
                case _:
                    list(bounds_in(fields, said))
            read += 1
        except InvalidInput:
            refused += 1
    assert min(read, refused) > 300


def spoil(raw: Any, chance: random.Random, odd: list[Any]) -> None:
    """Puts something odd in the place of one field, somewhere inside."""
    here = raw
    while True:
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        if not keys:
            return
        key = chance.choice(keys)
        if isinstance(here[key], dict | list) and here[key] and chance.random() < 0.7:
            here = here[key]
            continue
        here[key] = chance.choice(odd)
        return
