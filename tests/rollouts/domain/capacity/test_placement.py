"""What fits on a cluster, judged beside a scheduler that puts one pod after the other somewhere."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from rollouts.domain.capacity.nodes import (
    Bound,
    Container,
    Node,
    NodeChoice,
    NodeRule,
    PlacedPod,
    PodDemand,
    Quota,
    Supply,
    Taint,
    Toleration,
)
from rollouts.domain.capacity.placement import Placement, StartPlan, Wanted, place, replicas_that_fit
from tests.rollouts.domain.capacity.clusters import GIB, GPU, amounts, demand, node, supply, wanted

# --- what follows -----------------------------------------------------------------------------------------------------


def test_place__room_for_all__starts_beside_what_runs() -> None:
    found = place(supply(node("a"), node("b", taken=4)), wanted(3))
    assert (found.plan, found.beside, found.shortages) == (StartPlan.SURGE, 3, ())
    assert found.sentence == "3 replicas fit beside what runs."


def test_place__room_only_without_the_baseline__replaces_it() -> None:
    full = supply(node("a", taken=8))
    found = place(full, wanted(2), leaving=(PlacedPod("a", demand()), PlacedPod("a", demand())))
    assert (found.plan, found.beside) == (StartPlan.REPLACE, 0)
    assert found.sentence == (
        "2 replicas fit once the baseline's have ended, none of them before. "
        "1 node with pool=gpu has 0 x nvidia.com/gpu free, and 8 x nvidia.com/gpu are needed: "
        "8 x nvidia.com/gpu are short."
    )


def test_place__room_for_some_beside_the_baseline__says_for_how_many() -> None:
    found = place(supply(node("a", taken=4)), wanted(2), leaving=(PlacedPod("a", demand()),))
    assert (found.plan, found.beside) == (StartPlan.REPLACE, 1)
    assert "1 of them beside what runs" in found.sentence


def test_place__no_room_even_without_the_baseline__says_what_is_missing_then() -> None:
    found = place(supply(node("a", taken=4)), wanted(3), leaving=(PlacedPod("a", demand()),))
    assert (found.plan, found.beside) == (StartPlan.SHORT, 1)
    assert found.sentence == (
        "3 replicas do not fit even once the baseline's have ended; 1 would now. "
        "1 node with pool=gpu has 8 x nvidia.com/gpu free, and 12 x nvidia.com/gpu are needed: "
        "4 x nvidia.com/gpu are short."
    )


def test_place__pods_that_wait__are_told() -> None:
    found = place(supply(node("a"), waiting=amounts(gpu=2)), wanted(1))
    assert found.sentence.endswith("Other pods wait for 2 x nvidia.com/gpu already.")


# --- what is missing --------------------------------------------------------------------------------------------------


def short(cluster: Supply, asked: Wanted) -> str:
    found = place(cluster, asked)
    assert found.plan is StartPlan.SHORT
    return " ".join(found.shortages)


def test_shortage__free_ones_in_pieces__is_told_apart_from_too_few() -> None:
    pieces = supply(*(node(name, taken=5) for name in "abc"))
    assert short(pieces, wanted(1)) == (
        "3 nodes with pool=gpu have 9 x nvidia.com/gpu free, but at most 3 x nvidia.com/gpu on one, and each pod asks "
        "for 4 x nvidia.com/gpu: 0 of 1 pod would find a node."
    )


def test_shortage__pod_larger_than_any_node__says_so() -> None:
    assert short(supply(node("a", gpu=2)), wanted(1)) == (
        "A pod asks for 4 x nvidia.com/gpu, and the largest of 1 node with pool=gpu has 2 x nvidia.com/gpu in all."
    )


def test_shortage__memory__is_told_in_gib() -> None:
    small = node("a", allocatable=amounts(gpu=8, cpu=64, memory=48 * GIB, pods=110))
    assert "16 GiB of memory are short" in short(supply(small), wanted(2))


def test_shortage__of_different_things_on_different_nodes__names_all_that_a_pod_asks_for() -> None:
    no_cpu = node("a", taken=4, allocatable=amounts(gpu=8, cpu=2, memory=512 * GIB, pods=110))
    no_gpu = node("b", taken=7)
    found = short(supply(no_cpu, no_gpu), wanted(1))
    assert found == (
        "2 nodes with pool=gpu have enough of everything together, but no node has enough of all of it for the last "
        "pod: each asks for 4 CPU, 32 GiB of memory, 4 x nvidia.com/gpu, 1 pod."
    )


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([], "no nodes"),
        ([node("a", labels={"pool": "cpu"})], "there are no nodes with pool=gpu among them"),
        ([node("a", open=False)], "1 node is not ready or cordoned"),
        ([node("a", taints=(Taint(GPU, "present"),))], "the taint nvidia.com/gpu=present:NoSchedule"),
    ],
)
def test_shortage__no_node_that_may_be_used__says_why(nodes: list[Node], words: str) -> None:
    assert words in short(supply(*nodes), wanted(1))


def test_shortage__some_nodes_closed__is_told_beside_it() -> None:
    cluster = supply(node("a", taken=8), node("b", open=False))
    assert short(cluster, wanted(1)).endswith("Beside them, 1 node is not ready or cordoned.")


@pytest.mark.parametrize(("percent", "fits"), [(0, 4), (20, 3), (50, 2), (90, 0)])
def test_headroom__keeps_whole_accelerators_free(percent: int, fits: int) -> None:
    asked = wanted(4, demand=demand(gpu=2), headroom_percent=percent)
    assert place(supply(node("a")), asked).beside == fits


def test_headroom__of_few_free_ones__keeps_none() -> None:
    assert place(supply(node("a", gpu=4)), wanted(1, headroom_percent=20)).plan is StartPlan.SURGE


def test_shortage__headroom_alone__says_what_stays_free() -> None:
    assert short(supply(node("a")), wanted(2, headroom_percent=20)) == (
        "8 x nvidia.com/gpu are free on nodes with pool=gpu, 1 x nvidia.com/gpu of them stay free (headroom of 20%), "
        "and 8 x nvidia.com/gpu are needed: 1 x nvidia.com/gpu are short."
    )


@pytest.mark.parametrize(
    ("left", "words"),
    [
        ({f"requests.{GPU}": 6_000}, "leaves 6 x requests.nvidia.com/gpu"),
        ({"pods": 1_000}, "leaves 1 pod, and 2 pods are needed"),
        ({"limits.memory": 40 * GIB * 1_000}, "24 GiB of limits.memory are short"),
        ({"requests.cpu": -1_000}, "leaves 0 CPU, and 8 CPU are needed"),
        ({"limits.cpu": 99_000}, "takes no pod that does not say its limits.cpu"),
    ],
)
def test_quota__too_small__says_of_what_and_by_how_much(left: dict[str, int], words: str) -> None:
    assert words in short(supply(node("a"), quotas=(Quota("team", left),)), wanted(2))


def test_quota__of_other_things__does_not_count() -> None:
    cluster = supply(node("a"), quotas=(Quota("team", {"count/configmaps": 0, "services": 0}),))
    assert place(cluster, wanted(2)).plan is StartPlan.SURGE


def test_quota__that_the_baseline_fills__is_free_once_it_has_ended() -> None:
    cluster = supply(node("a", taken=4), quotas=(Quota("team", {f"requests.{GPU}": 0}),))
    assert place(cluster, wanted(1), leaving=(PlacedPod("a", demand()),)).plan is StartPlan.REPLACE


def test_usual_limit__of_the_namespace__counts_for_its_quota() -> None:
    bounds = (Bound("range", "cpu", usual=8_000),)
    cluster = supply(node("a"), bounds=bounds, quotas=(Quota("team", {"limits.cpu": 12_000}),))
    found = place(cluster, wanted(2))
    assert (found.plan, found.beside) == (StartPlan.SHORT, 1)
    assert "leaves 12 CPU, and 16 CPU are needed" in found.sentence


def test_usual_request__of_the_namespace__takes_its_part_of_a_node() -> None:
    disk = Container("verify", first=True)
    pod = demand(containers=(*demand().containers, disk))
    bounds = (Bound("range", "ephemeral-storage", usual_request=5_000),)
    roomy = node(
        "a", allocatable=amounts(gpu=8, cpu=64, memory=512 * GIB, pods=110) | {"ephemeral-storage": 9_000}
    )
    assert place(supply(roomy, bounds=bounds), wanted(2, demand=pod)).beside == 1
    assert place(supply(roomy), wanted(2, demand=pod)).beside == 2


def test_bound__least_of_what_a_container_does_not_name__breaks_nothing() -> None:
    bounds = (Bound("range", "ephemeral-storage", least=5_000),)
    assert place(supply(node("a"), bounds=bounds), wanted(1)).plan is StartPlan.SURGE


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        (
            Bound("range", "memory", most=16 * GIB * 1_000),
            "allows at most 16 GiB of memory, and the container engine",
        ),
        (Bound("range", "memory", least=64 * GIB * 1_000), "wants at least 64 GiB of memory"),
        (Bound("range", "cpu", most=2_000, usual=2_000), "gives the container engine a limit of 2 CPU"),
        (Bound("range", "cpu", most=2_000, of_pod=True), "a pod has no limit of it"),
        (Bound("range", "memory", most=GIB, of_pod=True), "a pod may take 32 GiB"),
        (Bound("range", "disk", least=GIB, of_pod=True), "a pod asks for nothing"),
        (Bound("range", "disk", ratio=2_000), "the container engine has no request of it"),
        (Bound("range", "cpu", ratio=2_000, of_pod=True), "a pod has no limit of it"),
    ],
)
def test_bound__that_the_pod_breaks__is_said(bound: Bound, words: str) -> None:
    found = place(supply(node("a"), bounds=(bound,)), wanted(1))
    assert (found.plan, found.beside) == (StartPlan.SHORT, 0)
    assert words in found.sentence


@pytest.mark.parametrize("of_pod", [False, True])
@pytest.mark.parametrize(("ratio", "fits"), [(1_499, False), (1_500, True), (1_501, True)])
def test_bound__times_that_a_limit_may_be_the_request__is_counted(
    ratio: int, fits: bool, of_pod: bool
) -> None:
    asked, may = {"memory": 20 * GIB * 1_000}, {"memory": 30 * GIB * 1_000}
    pod = PodDemand(asked, may, (Container("engine", asked, may),))
    found = place(
        supply(node("a"), bounds=(Bound("range", "memory", of_pod=of_pod, ratio=ratio),)),
        wanted(1, demand=pod),
    )
    assert (found.plan is StartPlan.SURGE) == fits
    words = "a limit of memory that is at most 1.499 times the request, and"
    assert (
        fits or f"{words} {'a pod' if of_pod else 'the container engine'} may take 30 GiB" in found.sentence
    )


def test_bound__usual_limit_that_is_too_many_times_the_request__is_counted() -> None:
    bounds = (Bound("range", "cpu", usual=8_000, ratio=1_500),)
    found = place(supply(node("a"), bounds=bounds), wanted(1))
    assert found.plan is StartPlan.SHORT
    assert "may take 8 CPU and asks for" in found.sentence


def test_several_pods_a_replica__count_together() -> None:
    found = place(supply(node("a"), node("b")), wanted(3, pods=2))
    assert (found.plan, found.beside) == (StartPlan.SHORT, 2)


def test_no_accelerators__fits_by_processor_and_memory() -> None:
    asked = wanted(16, demand=demand(gpu=0), accelerator="", headroom_percent=20)
    assert place(supply(node("a", gpu=0)), asked).plan is StartPlan.SURGE


# --- which nodes ------------------------------------------------------------------------------------------------------

H200 = NodeRule("product", "In", ("H200",))


@pytest.mark.parametrize(
    ("rule", "labels", "allowed"),
    [
        (H200, {"product": "H200"}, True),
        (H200, {"product": "A100"}, False),
        (H200, {}, False),
        (NodeRule("product", "NotIn", ("H200",)), {}, True),
        (NodeRule("product", "NotIn", ("H200",)), {"product": "H200"}, False),
        (NodeRule("product", "Exists"), {"product": ""}, True),
        (NodeRule("product", "Exists"), {}, False),
        (NodeRule("product", "DoesNotExist"), {}, True),
        (NodeRule("product", "DoesNotExist"), {"product": "x"}, False),
        (NodeRule("memory", "Gt", ("80000",)), {"memory": "143771"}, True),
        (NodeRule("memory", "Gt", ("80000",)), {"memory": "80000"}, False),
        (NodeRule("memory", "Gt", ("80000",)), {"memory": "much"}, False),
        (NodeRule("memory", "Lt", ("80000",)), {"memory": "-3"}, True),
        (NodeRule("memory", "Lt", ("80000",)), {}, False),
    ],
)
def test_rule__as_kubernetes_reads_it(rule: NodeRule, labels: dict[str, str], allowed: bool) -> None:
    assert rule.allows(labels) is allowed


@pytest.mark.parametrize(
    ("toleration", "taint", "tolerated"),
    [
        (Toleration("gpu"), Taint("gpu", "yes", "NoSchedule"), True),
        (Toleration("gpu"), Taint("other"), False),
        (Toleration("gpu", "Equal", "yes"), Taint("gpu", "yes"), True),
        (Toleration("gpu", "Equal", "yes"), Taint("gpu", "no"), False),
        (Toleration("gpu", effect="NoExecute"), Taint("gpu", effect="NoSchedule"), False),
        (Toleration("gpu", effect="NoExecute"), Taint("gpu", effect="NoExecute"), True),
        (Toleration("gpu", effect="NoExecute", seconds=60), Taint("gpu", effect="NoExecute"), False),
        (Toleration("none"), Taint("gpu", effect="PreferNoSchedule"), True),
    ],
)
def test_taint__keeps_pods_off_unless_tolerated(
    toleration: Toleration, taint: Taint, tolerated: bool
) -> None:
    choice = NodeChoice(tolerations=(toleration,))
    assert choice.may_use(node("a", taints=(taint,))) is tolerated


@pytest.mark.parametrize(("skew", "fits"), [(1, 3), (2, 4), (9, 5)])
def test_strict_spread__over_uneven_zones__stops_at_the_fullest(skew: int, fits: int) -> None:
    uneven = supply(node("a", gpu=16), node("b", taken=4))
    asked = wanted(9, choice=NodeChoice({"pool": "gpu"}, spread=("zone", skew)))
    assert replicas_that_fit(uneven, asked) == fits


def test_strict_spread__zone_whose_nodes_are_closed__holds_the_others_back() -> None:
    cluster = supply(node("a"), node("b", open=False))
    asked = wanted(2, choice=NodeChoice({"pool": "gpu"}, spread=("zone", 1)))
    found = place(cluster, asked)
    assert (found.plan, found.beside) == (StartPlan.SHORT, 1)
    assert "spread evenly over zone" in found.sentence


# --- never more than there is -----------------------------------------------------------------------------------------


def any_cluster(chance: random.Random) -> Supply:
    nodes = []
    for index in range(chance.randint(0, 5)):
        has = amounts(
            gpu=chance.randint(0, 8), cpu=chance.randint(1, 32), memory=chance.randint(8, 128) * GIB
        )
        has |= amounts(pods=chance.randint(2, 9))
        taken = {
            name: chance.randint(0, amount + amount // 4)
            for name, amount in has.items()
            if chance.random() < 0.5
        }
        nodes.append(
            Node(
                f"n{index}",
                allocatable=has,
                taken=taken,
                labels={"pool": chance.choice(["gpu", "gpu", "cpu"]), "zone": chance.choice("ab")},
                taints=tuple(
                    Taint(key, effect=chance.choice(["NoSchedule", "NoExecute", "PreferNoSchedule"]))
                    for key in ("gpu", "spot")
                    if chance.random() < 0.15
                ),
                open=chance.random() < 0.95,
            )
        )
    steps = {"pods": 1_000, f"requests.{GPU}": 1_000, "requests.cpu": 4_000, "limits.memory": 1 << 45}
    quota = {name: chance.randint(-2, 20) * step for name, step in steps.items() if chance.random() < 0.15}
    return Supply(tuple(nodes), quotas=(Quota("team", quota),) if quota else ())


def any_wanted(chance: random.Random) -> Wanted:
    each = amounts(
        gpu=chance.randint(0, 3), cpu=chance.choice([0.5, 2, 8]), memory=chance.choice([1, 8, 33]) * GIB
    )
    limits = {name: amount for name, amount in each.items() if name != "cpu"}
    tolerations = tuple(Toleration(key) for key in ("gpu", "spot") if chance.random() < 0.5)
    spread = ("zone", chance.randint(1, 2)) if chance.random() < 0.3 else None
    return Wanted(
        demand=PodDemand(each, limits, (Container("engine", each, limits),)),
        choice=NodeChoice(
            {"pool": "gpu"} if chance.random() < 0.7 else {}, tolerations=tolerations, spread=spread
        ),
        replicas=chance.randint(1, 5),
        pods=chance.choice([1, 1, 2]),
        headroom_percent=chance.choice([0, 20, 50]),
        accelerator=GPU,
    )


def one_after_the_other(cluster: Supply, asked: Wanted, pods: int) -> bool:
    """A scheduler of its own: puts each pod on a node that still has room, in the emptiest zone, and counts along."""
    room = {one.name: dict(one.allocatable) for one in cluster.nodes}
    for one in cluster.nodes:
        for name, amount in one.taken.items():
            room[one.name][name] = room[one.name].get(name, 0) - amount
    tolerated = {one.key for one in asked.choice.tolerations}
    meant = [
        one for one in cluster.nodes if all(one.labels.get(k) == v for k, v in asked.choice.labels.items())
    ]
    usable = [
        one
        for one in meant
        if one.open and all(t.effect == "PreferNoSchedule" or t.key in tolerated for t in one.taints)
    ]
    each = {**asked.demand.requests, "pods": 1_000}
    free_before = sum(max(0, room[one.name].get(GPU, 0)) for one in usable)
    zones = {one.labels["zone"]: 0 for one in meant}
    for _ in range(pods):
        fitting = [
            one for one in usable if all(room[one.name].get(n, 0) >= a for n, a in each.items() if a > 0)
        ]
        fitting.sort(key=lambda one: zones[one.labels["zone"]])
        if asked.choice.spread is not None:
            most = min(zones.values(), default=0) + asked.choice.spread[1]
            fitting = [one for one in fitting if zones[one.labels["zone"]] + 1 <= most]
        if not fitting:
            return False
        chosen = fitting[0]
        zones[chosen.labels["zone"]] += 1
        for name, amount in each.items():
            room[chosen.name][name] = room[chosen.name].get(name, 0) - amount
    gpu = asked.demand.requests[GPU]
    if (
        gpu
        and pods
        and free_before - pods * gpu < free_before * asked.headroom_percent // 100 // 1_000 * 1_000
    ):
        return False
    costs = {
        "pods": 1_000, f"requests.{GPU}": gpu, "requests.cpu": asked.demand.requests["cpu"],
        "limits.memory": asked.demand.requests["memory"],
    }  # fmt: skip
    return all(
        pods == 0 or costs[key] == 0 or pods * costs[key] <= left
        for quota in cluster.quotas
        for key, left in quota.left.items()
    )


def judged(seed: int) -> tuple[Supply, Wanted, Placement]:
    chance = random.Random(seed)
    cluster, asked = any_cluster(chance), any_wanted(chance)
    return cluster, asked, place(cluster, asked)


def test_random_clusters__what_fits__is_exactly_what_a_scheduler_can_place() -> None:
    seen = dict.fromkeys(StartPlan, 0)
    for seed in range(4_000):
        cluster, asked, found = judged(seed)
        seen[found.plan] += 1
        assert one_after_the_other(cluster, asked, found.beside * asked.pods), seed
        if found.beside < asked.replicas:
            assert not one_after_the_other(cluster, asked, (found.beside + 1) * asked.pods), seed
    assert min(seen[StartPlan.SURGE], seen[StartPlan.SHORT]) > 300


def test_random_clusters__what_does_not_fit__always_has_a_reason() -> None:
    for seed in range(4_000):
        _, _, found = judged(seed)
        assert (found.plan is StartPlan.SURGE) == (not found.shortages), seed
        assert all(line.endswith(".") and line == line.strip() for line in found.shortages)


def test_random_clusters__once_the_baseline_has_ended__as_much_fits_as_without_it() -> None:
    replaced = 0
    for seed in range(2_000):
        chance = random.Random(seed)
        cluster, asked = any_cluster(chance), any_wanted(chance)
        empty = replicas_that_fit(cluster, asked)
        if not 0 < empty * asked.pods <= 12 or asked.choice.spread is not None:
            continue
        # The baseline is put where there is room; what is left is judged with it.
        placed: list[PlacedPod] = []
        busy = cluster
        for one in cluster.nodes:
            while replicas_that_fit(only(busy, one.name), replace(asked, pods=1, headroom_percent=0)):
                busy = with_pod(busy, one.name, asked.demand)
                placed.append(PlacedPod(one.name, asked.demand))
        found = place(busy, replace(asked, replicas=empty), tuple(placed))
        assert found.plan is not StartPlan.SHORT, seed
        replaced += found.plan is StartPlan.REPLACE
    assert replaced > 100


def with_pod(cluster: Supply, name: str, pod: PodDemand) -> Supply:
    nodes = tuple(
        replace(one, taken={**one.taken, **{k: one.taken.get(k, 0) + v for k, v in pod.on_node.items()}})
        if one.name == name
        else one
        for one in cluster.nodes
    )
    quotas = tuple(
        Quota(one.name, {key: left - (pod.quota_amount(key) or 0) for key, left in one.left.items()})
        for one in cluster.quotas
    )
    return replace(cluster, nodes=nodes, quotas=quotas)


def only(cluster: Supply, name: str) -> Supply:
    return replace(cluster, nodes=tuple(one for one in cluster.nodes if one.name == name))
