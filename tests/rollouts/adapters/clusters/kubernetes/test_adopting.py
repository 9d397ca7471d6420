"""Which server of somebody else can answer for a variant, and what is made beside it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import InvalidInput, Unavailable
from registry.domain.manifest import Manifest, ManifestEntry
from rollouts.adapters.clusters.kubernetes.adopting import ALTERED, MIXED_UP, SERVER_KEY, Server, server_of
from rollouts.adapters.clusters.kubernetes.profile import ClusterProfile
from rollouts.domain.engines import WorkloadPhase
from rollouts.ports import WorkloadStatus
from tests.rollouts.adapters.clusters.kubernetes.memory import INSTALLATION, MemoryObjects, cluster_of
from tests.rollouts.adapters.clusters.kubernetes.profiles import profile_of
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


def a_pod(
    server: MemoryObjects,
    name: str,
    *,
    ready: bool = True,
    made_by: str = "llama-5d9c",
    installation: str = "",
    **labels: str,
) -> None:
    """Of the server; of somebody else where another ReplicaSet made it."""
    labels |= {"headgate.dev/installation": installation} if installation else {}
    truth = "True" if ready else "False"
    server.keep(
        {
            "kind": "Pod",
            "metadata": {
                "name": name,
                "labels": {"app": "llama", "pod-template-hash": "5d9c", **labels},
                "ownerReferences": [{"kind": "ReplicaSet", "name": made_by}],
            },
            "status": {
                "phase": "Running",
                "conditions": [{"type": one, "status": truth} for one in ("Ready", "ContainersReady")],
                "containerStatuses": [
                    {"name": "vllm", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}
                ],
            },
        }
    )


def made_again(server: MemoryObjects) -> dict[str, Any]:
    """The server under the same name, with other labels, as it lies there now."""
    raw = deployment()
    raw["metadata"]["uid"] = "another"
    raw["spec"]["selector"] = {"matchLabels": {"app": "new"}}
    raw["spec"]["template"]["metadata"]["labels"] = {"app": "new"}
    server.keep(raw)
    for name in ("llama-0", "llama-1"):
        a_pod(server, name, app="new")
    return server.objects[SERVER]


def somebodys_server() -> MemoryObjects:
    """A namespace in which somebody else's server runs, with two pods."""
    made = MemoryObjects()
    made.keep(deployment())
    for name in ("llama-0", "llama-1"):
        a_pod(made, name)
    return made


@pytest.fixture
def server() -> MemoryObjects:
    return somebodys_server()


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


def _key_with_underscore(raw: dict[str, Any]) -> None:
    engine(raw)["args"].append("--api_key=sentinel")


def _key_of_llama(raw: dict[str, Any]) -> None:
    engine(raw)["image"] = "ghcr.io/ggml-org/llama.cpp:server"
    engine(raw)["env"] = [{"name": "LLAMA_API_KEY", "value": "sentinel"}]


def _key_in_a_file(raw: dict[str, Any]) -> None:
    engine(raw)["args"].append("--api-key-file=/keys")


def _secret_in_its_name(raw: dict[str, Any]) -> None:
    engine(raw)["args"] = ["--model", "https://me:sentinel@models/llama"]


def _https(raw: dict[str, Any]) -> None:
    engine(raw)["args"] += ["--ssl-keyfile=/key", "--ssl-certfile=/cert"]


def _https_probe(raw: dict[str, Any]) -> None:
    engine(raw)["readinessProbe"]["httpGet"]["scheme"] = "HTTPS"


def _deleted(raw: dict[str, Any]) -> None:
    raw["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"


def _no_digest(raw: dict[str, Any]) -> None:
    engine(raw)["env"] = [{"name": "X", "value": "\ud800"}]


def _expressions(raw: dict[str, Any]) -> None:
    raw["spec"]["selector"]["matchExpressions"] = [{"key": "app", "operator": "Exists"}]


def _ours(raw: dict[str, Any]) -> None:
    raw["metadata"]["labels"]["headgate.dev/installation"] = "another"


def _pods_as_ours(raw: dict[str, Any]) -> None:
    raw["spec"]["template"]["metadata"]["labels"]["headgate.dev/installation"] = INSTALLATION


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
        (_key_with_underscore, "asks for an API key"),
        (_key_of_llama, "asks for an API key"),
        (_key_in_a_file, "asks for an API key"),
        (_secret_in_its_name, "answers to https://"),
        (_https, "by HTTPS alone"),
        (_https_probe, "by HTTPS alone"),
        (_deleted, "is being deleted"),
        (_no_digest, "cannot be understood"),
        (_expressions, "finds its pods by expressions"),
        (_ours, "managed by Headgate already"),
        (_pods_as_ours, "managed by Headgate already"),
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
    ("args", "ports", "asked", "port"),
    [
        (["--port", "9000"], [{"containerPort": 8080}], {"httpGet": {"port": 8080}}, 9000),
        ([], [{"name": "metrics", "containerPort": 9090}], {"httpGet": {"port": 8080}}, 8080),
        (
            [],
            [{"name": "a", "containerPort": 9090}, {"name": "b", "containerPort": 8080}],
            {"tcpSocket": {"port": "b"}},
            8080,
        ),
        (
            [],
            [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 8080}],
            {"exec": {"command": ["x"]}},
            8080,
        ),
        ([], [], {"exec": {"command": ["x"]}}, 8000),
        (
            ["--port=x"],
            [{"containerPort": "x"}, {"containerPort": 0}],
            {"httpGet": {"port": "unknown"}},
            8000,
        ),
    ],
)
def test_port__as_arguments_say__else_where_it_is_asked__else_the_containers__else_the_engines(
    args: list[str], ports: list[Any], asked: dict[str, Any], port: int
) -> None:
    raw = deployment()
    engine(raw)["args"] = ["--served-model-name", "chat", *args]
    engine(raw)["ports"] = ports
    engine(raw)["readinessProbe"] = asked
    assert server_of(raw, "chat", ()).port == port


def test_port__of_another_engine_that_says_none__is_its_usual_one() -> None:
    raw = deployment()
    engine(raw).update(
        image="lmsysorg/sglang:v0.4",
        args=["--served-model-name", "chat"],
        readinessProbe={"exec": {"command": ["x"]}},
    )
    assert server_of(raw, "chat", ()).port == 30_000


def test_server__several_engines_in_a_pod__is_the_one_that_answers_to_the_name() -> None:
    raw = deployment()
    draft = copy.deepcopy(engine(raw)) | {"name": "draft", "args": ["--served-model-name=draft"]}
    raw["spec"]["template"]["spec"]["containers"].insert(0, draft)
    assert server_of(raw, "chat", ()).container == "vllm"


def test_name__option_with_underscores__is_read_as_vllm_reads_it() -> None:
    raw = deployment()
    engine(raw)["args"] = ["--served_model_name=chat"]
    assert server_of(raw, "chat", ()).name == "llama"


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
    found = status(server)
    assert (found.phase, found.ready) == (WorkloadPhase.STARTING, 0)  # nothing leads to its pods yet
    assert "not all of its objects are made" in found.message
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


def test_adoptable__other_deployment_with_the_same_labels__is_refused(server: MemoryObjects) -> None:
    other = deployment()
    other["metadata"]["name"] = "llama-next"
    server.keep(other)
    with pytest.raises(
        InvalidInput, match="by app=llama, and Deployment llama-next has these labels"
    ) as caught:
        cluster_of(server).adoptable("llama", "chat")
    assert "label of their own" in caught.value.fix


def test_adoptable__pod_of_somebody_else_with_its_labels__is_refused(server: MemoryObjects) -> None:
    a_pod(server, "batch-0", made_by="batch-7f5b")
    with pytest.raises(InvalidInput, match="pod batch-0 has these labels"):
        cluster_of(server).adoptable("llama", "chat")


def test_servers__one_whose_labels_another_has__says_why_it_cannot_be_adopted(server: MemoryObjects) -> None:
    other = deployment()
    other["metadata"]["name"] = "web"
    engine(other)["image"], engine(other)["args"] = "nginx", []
    server.keep(other)
    (found,) = cluster_of(server).belongings().servers
    assert "Deployment web has these labels" in found.unfit


@pytest.mark.parametrize(
    ("labels", "profile"),
    [({"app.kubernetes.io/name": "vllm"}, profile_of()), ({"team": "a"}, profile_of(labels={"team": "a"}))],
)
def test_adoptable__labels_that_every_candidate_has__is_refused(
    server: MemoryObjects, labels: dict[str, str], profile: ClusterProfile
) -> None:
    raw = deployment()
    raw["spec"]["selector"] = {"matchLabels": labels}
    raw["spec"]["template"]["metadata"]["labels"] = labels
    server.keep(raw)
    with pytest.raises(InvalidInput, match="every engine that Headgate launches has these labels"):
        cluster_of(server, profile=profile).adoptable("llama", "chat")


def test_ensure__not_ready_at_this_moment__is_adopted_and_said_to_be_not_ready(server: MemoryObjects) -> None:
    raw = deployment()
    raw["status"] |= {"readyReplicas": 0, "availableReplicas": 0}
    server.keep(raw)
    for name in ("llama-0", "llama-1"):
        a_pod(server, name, ready=False)
    cluster_of(server).ensure(SPEC, token=1)
    assert status(server).ready == 0


def test_ensure__version_with_more_files_than_an_anchor_holds__names_the_field(server: MemoryObjects) -> None:
    files = Manifest.of([ManifestEntry(f"{number:0100}.bin", 1, "aa" * 32) for number in range(7_000)])
    with pytest.raises(InvalidInput, match="a ConfigMap holds") as caught:
        cluster_of(server).ensure(replace(SPEC, manifest=files), token=1)
    assert caught.value.field == "version"


def test_ensure__made_again_with_other_labels__leads_to_its_pods(server: MemoryObjects) -> None:
    cluster_of(server).ensure(SPEC, token=1)
    made_again(server)
    assert status(server).phase is WorkloadPhase.ABSENT
    cluster_of(server).ensure(SPEC, token=1)
    assert server.objects[SERVICE]["spec"]["selector"] == {"app": "new"}
    found = status(server)
    assert (found.phase, found.altered) == (WorkloadPhase.READY, "")


def test_ensure__made_again_with_other_labels_and_image__is_not_what_was_adopted(
    server: MemoryObjects,
) -> None:
    cluster_of(server).ensure(SPEC, token=1)
    engine(made_again(server))["image"] = "vllm/vllm-openai:v0.10"
    cluster_of(server).ensure(SPEC, token=1)
    assert status(server).altered == ALTERED


def test_ensure__made_again_and_broken_off__still_knows_what_was_adopted(server: MemoryObjects) -> None:
    cluster_of(server).ensure(SPEC, token=1)
    engine(made_again(server))["image"] = "vllm/vllm-openai:v0.10"
    server.fail_write[SERVICE] = RuntimeError("killed")
    with pytest.raises(RuntimeError):
        cluster_of(server).ensure(SPEC, token=1)
    del server.fail_write[SERVICE]
    cluster_of(server).ensure(SPEC, token=1)
    found = status(server)
    assert (found.phase, found.altered) == (WorkloadPhase.READY, ALTERED)


def test_ensure__its_deployment_was_deleted__waits_for_its_owner(server: MemoryObjects) -> None:
    """Said to be done, it would be asked for at every turn."""
    cluster_of(server).ensure(SPEC, token=1)
    del server.objects[SERVER]
    with pytest.raises(Unavailable, match="Somebody deleted the server"):
        cluster_of(server).ensure(SPEC, token=1)


def test_ensure__its_deployment_was_labelled_as_a_headgates__is_refused(server: MemoryObjects) -> None:
    """It is seen by no watch of servers any more: said to be done, it would be asked for at every turn."""
    cluster_of(server).ensure(SPEC, token=1)
    raw = server.objects[SERVER]
    _ours(raw)
    server.keep(raw)
    assert status(server).phase is WorkloadPhase.ABSENT
    with pytest.raises(InvalidInput, match="managed by Headgate already"):
        cluster_of(server).ensure(SPEC, token=1)


def test_ensure__anchor_that_somebody_spoilt__is_mended(server: MemoryObjects) -> None:
    cluster_of(server).ensure(SPEC, token=1)
    del server.objects[ANCHOR]["data"][SERVER_KEY]
    cluster_of(server).ensure(SPEC, token=1)
    assert status(server).phase is WorkloadPhase.READY


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


@pytest.mark.parametrize("installation", ["", INSTALLATION])
def test_status__pod_of_somebody_else_gets_its_requests__proves_nothing(
    server: MemoryObjects, installation: str
) -> None:
    cluster_of(server).ensure(SPEC, token=1)
    a_pod(server, "batch-0", made_by="batch-7f5b", installation=installation)
    found = status(server)
    assert (found.ready, found.altered) == (2, MIXED_UP)
    assert "batch-0" in found.drift


def test_status__what_it_makes_pods_from_cannot_be_understood__hides_no_other(server: MemoryObjects) -> None:
    cluster_of(server).ensure(SPEC, token=1)
    raw = server.objects[SERVER]
    _no_digest(raw)
    server.keep(raw)
    assert status(server).altered == ALTERED


def test_status__scaled_by_its_owner__is_no_drift(server: MemoryObjects) -> None:
    cluster_of(server).ensure(SPEC, token=1)
    raw = server.objects[SERVER]
    raw["spec"]["replicas"] = 1
    raw["status"] |= {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}
    server.keep(raw)
    del server.objects["Pod", "llama-1"]
    found = status(server)
    assert (found.phase, found.ready, found.desired, found.drift) == (WorkloadPhase.READY, 1, 1, "")


def test_status__scaled_to_nothing_by_its_owner__says_who(server: MemoryObjects) -> None:
    cluster_of(server).ensure(SPEC, token=1)
    raw = server.objects[SERVER]
    raw["spec"]["replicas"] = 0
    server.keep(raw)
    for name in ("llama-0", "llama-1"):
        del server.objects["Pod", name]
    assert status(server).message == "Its owner scaled Deployment llama to 0 replicas."


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


@pytest.mark.parametrize("args", [["--hf-token", "opensesame"], ["--hf-token=opensesame"]])
def test_log_and_status__hold_no_secret_of_its_owner(server: MemoryObjects, args: list[str]) -> None:
    raw = server.objects[SERVER]
    engine(raw)["env"].append({"name": "STORE_PASSWORD", "value": "correct-horse"})
    engine(raw)["args"] += args
    server.keep(raw)
    cluster_of(server).ensure(SPEC, token=1)
    said = "asked the store as correct-horse and the hub as opensesame"
    server.logs["llama-1"] = said
    for name in ("llama-0", "llama-1"):
        pod = server.objects["Pod", name]
        pod["status"] = {
            "phase": "Running",
            "containerStatuses": [
                {"name": "vllm", "restartCount": 9, "state": {"terminated": {"exitCode": 1, "message": said}}}
            ],
        }
        server.keep(pod)
    told = f"{cluster_of(server).log_tail(NAME)} {status(server).message}"
    assert told.count("[hidden]") == 4
    assert "correct-horse" not in told
    assert "opensesame" not in told


def test_log__of_a_server_beside_which_something_without_arguments_runs__is_told(
    server: MemoryObjects,
) -> None:
    raw = server.objects[SERVER]
    raw["spec"]["template"]["spec"]["containers"].append({"name": "proxy", "image": "envoy"})
    server.keep(raw)
    cluster_of(server).ensure(SPEC, token=1)
    server.logs["llama-1"] = "engine is up"
    assert cluster_of(server).log_tail(NAME) == ("engine is up",)


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
