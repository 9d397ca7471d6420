"""What is asked of a cluster before a start, and what is said about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from controlplane.kernel.errors import InvalidInput, Unavailable
from registry.domain.manifest import Manifest, ManifestEntry
from rollouts.adapters.clusters.kubernetes.capacity import (
    accelerator_bytes,
    judged,
    read_supply,
    wanted_of,
    wanted_together,
)
from rollouts.adapters.clusters.kubernetes.client import KubernetesClient
from rollouts.adapters.clusters.kubernetes.container import CONTAINER_ENGINES
from rollouts.adapters.clusters.kubernetes.errors import Denied
from rollouts.domain.accelerators import Accelerators
from rollouts.domain.capacity.nodes import NodeChoice, NodeRule, Supply, Toleration
from rollouts.domain.capacity.placement import Placement, StartPlan
from rollouts.ports import WorkloadSpec
from tests.rollouts.adapters.clusters.kubernetes.api_server import ScriptedServer, scripted_server, status
from tests.rollouts.adapters.clusters.kubernetes.cluster_objects import (
    GPU,
    listed,
    raw_node,
    raw_pod,
    raw_quota,
    raw_range,
)
from tests.rollouts.adapters.clusters.kubernetes.profiles import FETCHES, profile_of
from tests.rollouts.adapters.clusters.kubernetes.specs import spec_of

ROLE = Path(__file__).parents[5] / "deploy" / "kubernetes" / "role.yaml"
OURS = {"headgate.dev/installation": "8d1f2c", "headgate.dev/variant": "chat-v6-3f9a1c"}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as script:
        yield script


@pytest.fixture
def client(server: ScriptedServer) -> KubernetesClient:
    return KubernetesClient(server.api_client, "team-a")


def on_gpus(count: int = 4, **changes: Any) -> WorkloadSpec:
    return spec_of(accelerators=Accelerators(count, GPU), **changes)


def judge(
    client: KubernetesClient,
    *specs: WorkloadSpec,
    baseline: str = "",
    ending: tuple[str, ...] = (),
    **profile: Any,
) -> Placement:
    made = profile_of(headroom_percent=0, **profile)
    wanted = wanted_together(specs, made, CONTAINER_ENGINES)
    return judged(read_supply(client, made, "8d1f2c"), wanted, baseline=baseline, ending=ending)


def answers(nodes: Any, pods: Any, quotas: Any = (), ranges: Any = ()) -> list[tuple[int, Any]]:
    return [listed(*nodes), listed(*pods), listed(*quotas), listed(*ranges)]


def test_judged__four_lists__are_asked_and_nothing_else(
    client: KubernetesClient, server: ScriptedServer
) -> None:
    server.answers = answers([raw_node("a")], [])
    assert judge(client, on_gpus(replicas=2)).plan is StartPlan.SURGE
    assert [(one.method, one.path) for one in server.asked] == [
        ("GET", "/api/v1/nodes"),
        ("GET", "/api/v1/pods"),
        ("GET", "/api/v1/namespaces/team-a/resourcequotas"),
        ("GET", "/api/v1/namespaces/team-a/limitranges"),
    ]
    assert server.asked[1].query["fieldSelector"] == "status.phase!=Succeeded,status.phase!=Failed"


def test_judged__pods_of_others__take_their_part(client: KubernetesClient, server: ScriptedServer) -> None:
    server.answers = answers(
        [raw_node("a")], [raw_pod("other", "a", gpus=5), raw_pod("over", "a", gpus=3, phase="Failed")]
    )
    found = judge(client, on_gpus(replicas=1))
    assert found.plan is StartPlan.SHORT
    assert "1 node has 3 x nvidia.com/gpu free" in found.sentence


def test_judged__baseline_of_this_installation__may_end(
    client: KubernetesClient, server: ScriptedServer
) -> None:
    server.answers = answers([raw_node("a")], [raw_pod("ours", "a", gpus=6, labels=OURS)])
    assert judge(client, on_gpus(), baseline="chat-v6-3f9a1c").plan is StartPlan.REPLACE


def test_judged__variant_that_ends_with_the_start__counts_as_free_and_is_named(
    client: KubernetesClient, server: ScriptedServer
) -> None:
    server.answers = answers([raw_node("a")], [raw_pod("ours", "a", gpus=6, labels=OURS)])
    found = judge(client, on_gpus(), ending=("chat-v6-3f9a1c", "chat-v5-that-is-gone"))
    assert found.plan is StartPlan.SURGE
    assert found.notes == ("What chat-v6-3f9a1c takes counts as free: it ends when the rollout starts.",)


def test_judged__several_variants__want_room_together(
    client: KubernetesClient, server: ScriptedServer
) -> None:
    server.answers = answers([raw_node("a")], [])
    found = judge(client, on_gpus(), on_gpus(variant="chat-v8-aaaa"), on_gpus(variant="chat-v9-aaaa"))
    assert (found.plan, found.wanted, found.beside) == (StartPlan.SHORT, 3, 2)


@pytest.mark.parametrize("label", ["installation", "variant"])
def test_judged__pod_of_another_installation_or_variant__stays(
    client: KubernetesClient, server: ScriptedServer, label: str
) -> None:
    labels = {**OURS, f"headgate.dev/{label}": "another"}
    server.answers = answers([raw_node("a")], [raw_pod("theirs", "a", gpus=6, labels=labels)])
    assert judge(client, on_gpus(), baseline="chat-v6-3f9a1c").plan is StartPlan.SHORT


def test_judged__quota_and_range_of_the_namespace__count(
    client: KubernetesClient, server: ScriptedServer
) -> None:
    quotas = [raw_quota(hard={f"requests.{GPU}": "8"}, used={f"requests.{GPU}": "6"})]
    ranges = [raw_range({"type": "Container", "max": {"memory": "4Gi"}})]
    server.answers = answers([raw_node("a")], [], quotas, ranges)
    found = judge(client, on_gpus())
    assert "The quota team leaves 2 x requests.nvidia.com/gpu" in found.sentence
    assert (
        "The limit range range allows at most 4 GiB of memory, and the container engine may take 8 GiB"
        in (found.sentence)
    )


def test_judged__pods_that_wait__are_told(client: KubernetesClient, server: ScriptedServer) -> None:
    server.answers = answers([raw_node("a")], [raw_pod("waits", gpus=2, phase="Pending")])
    assert judge(client, on_gpus()).sentence.endswith("Other pods wait for 2 x nvidia.com/gpu already.")


@pytest.mark.parametrize("odd", ["node", "pod"])
def test_judged__something_odd_about_a_node__leaves_it_out_and_says_so(
    client: KubernetesClient, server: ScriptedServer, odd: str
) -> None:
    spoilt = raw_node("b", allocatable={"cpu": "lots"}) if odd == "node" else raw_node("b")
    nodes = [raw_node("a"), spoilt]
    pods = [raw_pod("strange", "b", containers=[7])] if odd == "pod" else []
    server.answers = answers(nodes, pods)
    found = judge(client, on_gpus(replicas=3))
    assert (found.plan, found.beside) == (StartPlan.SHORT, 2)
    assert found.sentence.endswith("cannot be understood: b.")


@pytest.mark.parametrize("odd", ["quota", "range"])
def test_judged__odd_rule_of_the_namespace__is_no_answer(
    client: KubernetesClient, server: ScriptedServer, odd: str
) -> None:
    quotas = [raw_quota(hard={"pods": "many"})] if odd == "quota" else []
    ranges = [raw_range({"type": "Pod", "max": {"cpu": []}})] if odd == "range" else []
    server.answers = answers([raw_node("a")], [], quotas, ranges)
    with pytest.raises(Unavailable, match="cannot be understood"):
        judge(client, on_gpus())


@pytest.mark.parametrize("items", [["no object"], {"a": 1}, "text"])
def test_judged__list_that_is_none__is_no_answer(
    client: KubernetesClient, server: ScriptedServer, items: Any
) -> None:
    server.answers = [(200, {"metadata": {"resourceVersion": "7"}, "items": items})]
    with pytest.raises(Unavailable, match="no list of objects"):
        judge(client, on_gpus())


def test_judged__list_without_end__is_given_up(
    client: KubernetesClient, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollouts.adapters.clusters.kubernetes.client.MOST_PAGES", 3)
    server.answers = [listed(more="on") for _ in range(3)]
    with pytest.raises(Unavailable, match="no end after 3 parts"):
        judge(client, on_gpus())


def test_judged__more_nodes_than_are_read__is_given_up(
    client: KubernetesClient, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollouts.adapters.clusters.kubernetes.capacity.MOST_NODES", 2)
    server.answers = [listed(raw_node("a"), raw_node("b"), raw_node("c"))]
    with pytest.raises(Unavailable, match="more than 2 objects of the kind Node"):
        judge(client, on_gpus())


def test_judged__role_without_nodes__names_the_verb(client: KubernetesClient, server: ScriptedServer) -> None:
    server.answers = [
        status(
            403,
            'nodes is forbidden: User "h" cannot list resource "nodes" in API group "" at the cluster scope',
        )
    ]
    with pytest.raises(Denied, match="lacks the verb list of nodes"):
        judge(client, on_gpus())


def test_role__grants_what_is_asked_for(client: KubernetesClient, server: ScriptedServer) -> None:
    server.answers = answers([], [])
    judge(client, on_gpus())
    rules = {body["metadata"]["name"]: body["rules"] for body in yaml.safe_load_all(ROLE.read_text())}
    for asked in server.asked:
        role = "headgate-workloads" if "/namespaces/" in asked.path else "headgate-capacity"
        resource = asked.path.rsplit("/", 1)[1]
        assert any(resource in one["resources"] and "list" in one["verbs"] for one in rules[role]), resource
    assert rules["headgate-capacity"] == [
        {"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": ["list"]}
    ]


# --- what is wanted ---------------------------------------------------------------------------------------------------


def test_wanted__of_one_node__is_the_pod_that_would_be_made() -> None:
    found = wanted_of(on_gpus(2, replicas=3), profile_of(), CONTAINER_ENGINES)
    assert (found.replicas, found.pods, found.accelerator, found.headroom_percent) == (3, 1, GPU, 20)
    assert found.demand.requests == {
        "cpu": 1_000, "memory": 8_192 * 2**20 * 1_000, "ephemeral-storage": 4_096 * 2**20 * 1_000, GPU: 2_000,
    }  # fmt: skip
    assert [one.name for one in found.demand.containers] == ["verify", "engine"]


def test_wanted__of_several_nodes__is_split_among_pods() -> None:
    found = wanted_of(on_gpus(16), profile_of(accelerators_per_node=8), CONTAINER_ENGINES)
    assert (found.pods, found.demand.requests[GPU]) == (2, 8_000)


def test_wanted__without_accelerators__has_none() -> None:
    found = wanted_of(spec_of(), profile_of(), CONTAINER_ENGINES)
    assert (found.accelerator, GPU in found.demand.requests) == ("", False)


def test_wanted__nodes__are_those_of_the_profile() -> None:
    profile = profile_of(
        node_labels={"pool": "gpu"},
        node_rules=[{"label": "product", "operator": "In", "values": ["H200"]}],
        tolerations=[{"key": GPU}],
        spread=[{"label": "zone", "max_skew": 2, "strict": True}, {"label": "kubernetes.io/hostname"}],
    )
    assert wanted_of(on_gpus(), profile, CONTAINER_ENGINES).choice == NodeChoice(
        {"pool": "gpu"}, (NodeRule("product", "In", ("H200",)),), (Toleration(GPU),), ("zone", 2)
    )


def test_wanted__two_strict_spreads__are_not_judged() -> None:
    strict = [{"label": one, "strict": True} for one in ("zone", "rack")]
    with pytest.raises(InvalidInput, match="several labels at once") as caught:
        wanted_of(on_gpus(), profile_of(spread=strict), CONTAINER_ENGINES)
    assert caught.value.field == "configuration.profile.spread"


def test_wanted__variants_that_are_fetched_into_pods__ask_for_the_largest_one_s_disk() -> None:
    small = on_gpus(source="s3://models/a")
    large = replace(
        small,
        variant="chat-v8-aaaa",
        manifest=Manifest.of([ManifestEntry("model.safetensors", 9 << 30, "cc" * 32)]),
    )
    profile = profile_of(weights=FETCHES)
    both = wanted_together([small, large, small], profile, CONTAINER_ENGINES)
    alone = wanted_of(large, profile, CONTAINER_ENGINES)
    assert (both.replicas, both.demand) == (3, alone.demand)
    assert alone.demand != wanted_of(small, profile, CONTAINER_ENGINES).demand


# --- memory of an accelerator -----------------------------------------------------------------------------------------


def memory_of_nodes(client: KubernetesClient, server: ScriptedServer, *labels: dict[str, str]) -> int | None:
    server.answers = answers([raw_node(f"n{n}", labels=one) for n, one in enumerate(labels)], [])
    supply: Supply = read_supply(client, profile_of(), "8d1f2c").supply
    return accelerator_bytes(supply, NodeChoice(), GPU)


def test_accelerator__that_nodes_name__is_the_smallest(
    client: KubernetesClient, server: ScriptedServer
) -> None:
    labels = ({f"{GPU}.memory": "143771"}, {f"{GPU}.memory": "81559", f"{GPU}.replicas": "1"})
    assert memory_of_nodes(client, server, *labels) == 81_559 << 20


@pytest.mark.parametrize(
    "labels",
    [
        {},
        {f"{GPU}.memory": "lots"},
        {f"{GPU}.memory": "0"},
        {f"{GPU}.memory": "81559", f"{GPU}.replicas": "4"},
    ],
)
def test_accelerator__shared_or_not_named__is_not_known(
    client: KubernetesClient, server: ScriptedServer, labels: dict[str, str]
) -> None:
    assert memory_of_nodes(client, server, {f"{GPU}.memory": "81559"}, labels) is None


def test_accelerator__on_no_node__is_not_known(client: KubernetesClient, server: ScriptedServer) -> None:
    assert memory_of_nodes(client, server) is None
