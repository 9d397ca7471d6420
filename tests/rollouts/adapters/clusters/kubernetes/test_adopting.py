"""Which server of somebody else can answer for a variant, and what is made beside it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import InvalidInput
from rollouts.adapters.clusters.kubernetes.adopting import ALTERED, SERVER_KEY, Server, server_of
from rollouts.domain.engines import WorkloadPhase
from rollouts.ports import WorkloadStatus
from tests.rollouts.adapters.clusters.kubernetes.memory import MemoryObjects, cluster_of
from tests.rollouts.adapters.clusters.kubernetes.specs import spec_of

SPEC = spec_of(adopts="llama")
NAME = SPEC.variant
ANCHOR, SERVICE, SERVER = ("ConfigMap", NAME), ("Service", NAME), ("Deployment", "llama")
Change = Callable[[dict[str, Any]], None]


def deployment() -> dict[str, Any]:
    """Of somebody else: it answers to the endpoint's name, on a port of its own."""
    container = {
        "name": "vllm",
        "image": "vllm/vllm-openai:v0.9",
        "args": ["--model", "meta/llama", "--served-model-name", "llama", "chat", "--port=9000"],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 9000}},
        "env": [{"name": "HF_TOKEN", "value": "hf_sentinel"}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "llama", "generation": 1, "labels": {"team": "a"}},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "llama"}},
            "template": {"metadata": {"labels": {"app": "llama"}}, "spec": {"containers": [container]}},
        },
        "status": {
            "observedGeneration": 1,
            "replicas": 2,
            "updatedReplicas": 2,
            "readyReplicas": 2,
            "availableReplicas": 2,
        },
    }


def engine(raw: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = raw["spec"]["template"]["spec"]["containers"][0]
    return found


def a_pod(server: MemoryObjects, name: str, *, ready: bool = True, **labels: str) -> None:
    truth = "True" if ready else "False"
    server.keep(
        {
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": "llama", "pod-template-hash": "5d9c", **labels}},
            "status": {
                "phase": "Running",
                "conditions": [{"type": one, "status": truth} for one in ("Ready", "ContainersReady")],
                "containerStatuses": [
                    {"name": "vllm", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
                ],
            },
        }
    )


@pytest.fixture
def server() -> MemoryObjects:
    made = MemoryObjects()
    made.keep(deployment())
    for name in ("llama-0", "llama-1"):
        a_pod(made, name)
    return made


def status(server: MemoryObjects) -> WorkloadStatus:
    return cluster_of(server).statuses()[NAME]


# --- which can be adopted ---------------------------------------------------------------------------------------------


def test_server__that_answers_to_the_endpoints_name__is_known_by_its_own_labels_and_port() -> None:
    found = server_of(deployment(), "chat", ())
    assert (found.name, found.selector, found.container, found.port) == (
        "llama",
        {"app": "llama"},
        "vllm",
        9000,
    )


def _no_probe(raw: dict[str, Any]) -> None:
    del engine(raw)["readinessProbe"]


def _other_name(raw: dict[str, Any]) -> None:
    engine(raw)["args"] = ["--model", "meta/llama"]


def _no_name(raw: dict[str, Any]) -> None:
    engine(raw)["args"] = []


def _key(raw: dict[str, Any]) -> None:
    engine(raw)["args"].append("--api-key=sentinel")


def _key_as_variable(raw: dict[str, Any]) -> None:
    engine(raw)["env"] = [{"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": {"name": "x", "key": "y"}}}]


def _expressions(raw: dict[str, Any]) -> None:
    raw["spec"]["selector"]["matchExpressions"] = [{"key": "app", "operator": "Exists"}]


def _ours(raw: dict[str, Any]) -> None:
    raw["metadata"]["labels"]["headgate.dev/installation"] = "another"


def _not_ready(raw: dict[str, Any]) -> None:
    raw["status"]["readyReplicas"] = 0


def _no_engine(raw: dict[str, Any]) -> None:
    raw["spec"]["template"]["spec"]["containers"] = [{"name": "web", "image": "nginx"}]


def _odd(raw: dict[str, Any]) -> None:
    raw["spec"] = "x"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_no_probe, "no readiness probe"),
        (_other_name, "answers to meta/llama"),
        (_no_name, "a name that its arguments do not say"),
        (_key, "asks for an API key"),
        (_key_as_variable, "asks for an API key"),
        (_expressions, "finds its pods by expressions"),
        (_ours, "managed by Headgate already"),
        (_not_ready, "no pod that is ready"),
        (_no_engine, "not recognised as a server of models"),
        (_odd, "not recognised as a server of models"),
    ],
)
def test_server__that_would_not_serve_alike__is_refused_with_what_its_owner_can_do(
    change: Change, words: str
) -> None:
    raw = deployment()
    change(raw)
    with pytest.raises(InvalidInput, match=words) as caught:
        server_of(raw, "chat", ())
    assert caught.value.field == "adopts"
    assert caught.value.fix
    assert "sentinel" not in str(caught.value)


@pytest.mark.parametrize(
    ("args", "ports", "port"),
    [
        (["--port", "9000"], [{"containerPort": 8080}], 9000),
        ([], [{"containerPort": 8080}], 8080),
        ([], [], 8000),
        (["--port=x"], [{"containerPort": "x"}, {"containerPort": 0}], 8000),
    ],
)
def test_port__as_arguments_say__else_the_containers__else_the_engines(
    args: list[str], ports: list[Any], port: int
) -> None:
    raw = deployment()
    engine(raw)["args"] = ["--served-model-name", "chat", *args]
    engine(raw)["ports"] = ports
    assert server_of(raw, "chat", ()).port == port


@pytest.mark.parametrize(
    "kept", ["", "[]", "{}", '{"name": "x", "selector": {}, "container": "c", "port": 1, "template": ""}']
)
def test_kept__odd__is_none(kept: str) -> None:
    assert Server.kept({SERVER_KEY: kept}) is None


# --- adopting ---------------------------------------------------------------------------------------------------------


def test_ensure__makes_an_anchor_and_a_service_on_its_pods_and_writes_nothing_to_it(
    server: MemoryObjects,
) -> None:
    before = copy.deepcopy(server.objects[SERVER])
    cluster_of(server).ensure(SPEC, token=1)
    assert SERVER not in server.writes
    assert {ANCHOR, SERVICE} <= set(server.writes)
    assert server.objects[SERVER] == before
    spec = server.objects[SERVICE]["spec"]
    assert spec["selector"] == {"app": "llama"}
    assert (spec["ports"][0]["port"], spec["ports"][0]["targetPort"]) == (8000, 9000)
    assert server.objects[SERVICE]["metadata"]["ownerReferences"][0]["name"] == NAME


def test_ensure__keeps_no_value_of_its_variables(server: MemoryObjects) -> None:
    cluster_of(server).ensure(SPEC, token=1)
    assert "hf_sentinel" not in str(server.objects[ANCHOR])


def test_ensure__again__writes_nothing(server: MemoryObjects) -> None:
    cluster_of(server).ensure(SPEC, token=1)
    server.writes.clear()
    cluster_of(server).ensure(SPEC, token=1)
    assert server.writes == []


def test_ensure__server_is_not_there__names_the_field(server: MemoryObjects) -> None:
    del server.objects[SERVER]
    with pytest.raises(InvalidInput, match="There is no Deployment llama") as caught:
        cluster_of(server).ensure(SPEC, token=1)
    assert caught.value.field == "adopts"
    assert ANCHOR not in server.objects


def test_ensure__broken_off_before_its_service__goes_on(server: MemoryObjects) -> None:
    server.fail_write[SERVICE] = RuntimeError("killed")
    with pytest.raises(RuntimeError):
        cluster_of(server).ensure(SPEC, token=1)
    del server.fail_write[SERVICE]
    cluster_of(server).ensure(SPEC, token=1)
    assert status(server).phase is WorkloadPhase.READY


def test_launched__says_what_was_adopted(server: MemoryObjects) -> None:
    cluster_of(server).ensure(SPEC, token=1)
    assert cluster_of(server).launched(NAME) == SPEC


def test_adoptable__sound__says_how_many_replicas_its_owner_asks_for(server: MemoryObjects) -> None:
    assert cluster_of(server).adoptable("llama", "chat") == 2


def test_adoptable__answers_for_another_endpoint__is_refused(server: MemoryObjects) -> None:
    cluster_of(server).ensure(SPEC, token=1)
    with pytest.raises(InvalidInput, match="answers for endpoint chat already"):
        cluster_of(server).adoptable("llama", "llama")


# --- what is said of it -----------------------------------------------------------------------------------------------


def test_status__all_its_pods_ready__is_ready_with_the_services_address(server: MemoryObjects) -> None:
    cluster_of(server).ensure(SPEC, token=1)
    found = status(server)
    assert (found.phase, found.ready, found.desired) == (WorkloadPhase.READY, 2, 2)
    assert (found.drift, found.altered, found.scale_in_held) == ("", "", None)
    assert found.backend is not None
    assert (found.backend.name, found.backend.address) == (NAME, f"{NAME}.team-a:8000")


def test_status__pods_of_another_deployment__do_not_count(server: MemoryObjects) -> None:
    cluster_of(server).ensure(SPEC, token=1)
    a_pod(server, "other-0", app="other")
    assert status(server).ready == 2


def test_status__scaled_by_its_owner__is_no_drift(server: MemoryObjects) -> None:
    cluster_of(server).ensure(SPEC, token=1)
    raw = server.objects[SERVER]
    raw["spec"]["replicas"] = 1
    raw["status"] |= {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}
    server.keep(raw)
    del server.objects["Pod", "llama-1"]
    found = status(server)
    assert (found.phase, found.ready, found.desired, found.drift) == (WorkloadPhase.READY, 1, 1, "")


def test_status__changed_by_its_owner__proves_nothing_any_more(server: MemoryObjects) -> None:
    cluster_of(server).ensure(SPEC, token=1)
    raw = server.objects[SERVER]
    engine(raw)["image"] = "vllm/vllm-openai:v0.10"
    server.keep(raw)
    found = status(server)
    assert found.altered == ALTERED
    assert "Its owner changed" in found.drift


def test_status__labels_of_its_pods_changed_by_its_owner__is_no_other_server(server: MemoryObjects) -> None:
    cluster_of(server).ensure(SPEC, token=1)
    raw = server.objects[SERVER]
    raw["spec"]["template"]["metadata"]["annotations"] = {"kubectl.kubernetes.io/restartedAt": "now"}
    server.keep(raw)
    assert status(server).altered == ""


def test_status__its_deployment_is_deleted__says_so(server: MemoryObjects) -> None:
    cluster_of(server).ensure(SPEC, token=1)
    del server.objects[SERVER]
    found = status(server)
    assert found.phase is WorkloadPhase.ABSENT
    assert found.message == "Somebody deleted the server that answers for it, Deployment llama."


def test_log__is_that_of_its_own_container(server: MemoryObjects) -> None:
    cluster_of(server).ensure(SPEC, token=1)
    server.logs["llama-1"] = "engine is up"
    assert cluster_of(server).log_tail(NAME) == ("engine is up",)
    assert server.containers_read == ["vllm"]


def test_scale_in__is_its_owners__nothing_is_noted(server: MemoryObjects) -> None:
    cluster_of(server).ensure(SPEC, token=1)
    server.writes.clear()
    cluster_of(server).hold_scale_in(NAME, "chat", on=True, token=1)
    assert server.writes == []


# --- letting it go ----------------------------------------------------------------------------------------------------


def test_drain__takes_the_anchor_away_and_leaves_the_server(server: MemoryObjects) -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    cluster = cluster_of(server, clock=clock)
    cluster.ensure(SPEC, token=1)
    cluster.drain(NAME, "chat", token=1)
    clock.advance(60)
    cluster.statuses()
    assert "deletionTimestamp" in server.objects[ANCHOR]["metadata"]
    assert "deletionTimestamp" not in server.objects[SERVER]["metadata"]


def test_servers__one_that_was_adopted__is_managed_and_not_among_them(server: MemoryObjects) -> None:
    assert [one.unfit for one in cluster_of(server).belongings().servers] == [""]
    cluster_of(server).ensure(SPEC, token=1)
    assert cluster_of(server).belongings().servers == ()
