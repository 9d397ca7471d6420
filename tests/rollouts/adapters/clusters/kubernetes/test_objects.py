"""The objects of a variant."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.kernel.digests import canonical_json
from controlplane.kernel.errors import InvalidInput
from rollouts.adapters.clusters.kubernetes.container import CONTAINER_ENGINES, ContainerEngine, cores, size_mb
from rollouts.adapters.clusters.kubernetes.names import LONGEST_LABEL, PREFIX, VARIANT
from rollouts.adapters.clusters.kubernetes.objects import objects_of
from rollouts.adapters.clusters.kubernetes.record import record_of, spec_in
from rollouts.domain.accelerators import Accelerators
from rollouts.domain.engine_options import Option, OptionKind
from rollouts.domain.images import Image
from rollouts.domain.secrets import SealedSecret, SecretFile
from tests.rollouts.adapters.clusters.kubernetes.profiles import DIGEST, FETCHES, profile_of
from tests.rollouts.adapters.clusters.kubernetes.specs import (
    MANIFEST,
    engine_in,
    made,
    of_kind,
    pod_in,
    spec_of,
)

STORE = {
    "kind": "object_store",
    "sources": ["s3://models/"],
    "egress": ["10.0.0.0/8"],
    "unchanging": True,
}
IN_STORE = spec_of(source="s3://models/triage/2")
OCI = {"kind": "oci_volume", "sources": ["oci://registry.example/models/"]}
IN_REGISTRY = spec_of(source=f"oci://registry.example/models/chat@{DIGEST}")
ALL_KINDS = [
    (spec_of(), profile_of()),
    (IN_STORE, profile_of(weights=STORE)),
    (IN_STORE, profile_of(weights=FETCHES)),
    (IN_REGISTRY, profile_of(weights=OCI)),
    (spec_of(), profile_of(autoscaler={"kind": "hpa", "most": 4}, pod_monitor=True, queue="team-a")),
    (spec_of(), profile_of(autoscaler={"kind": "keda", "most": 4, "prometheus": "http://prometheus:9090"})),
    (spec_of(accelerators=Accelerators(16, "nvidia.com/gpu")), profile_of(accelerators_per_node=8)),
]
everywhere = pytest.mark.parametrize(("spec", "profile"), ALL_KINDS)

SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")


def everything(objects: Any) -> list[Any]:
    return [objects.anchor, *objects.owned_by("8a9f")]


def labels_within(value: Any) -> list[dict[str, str]]:
    """All labels of all objects and templates."""
    if isinstance(value, dict):
        own = [value["labels"]] if isinstance(value.get("labels"), dict) else []
        return own + [found for inner in value.values() for found in labels_within(inner)]
    return [found for inner in value for found in labels_within(inner)] if isinstance(value, list) else []


@everywhere
def test_objects__made_twice__are_the_same_byte_for_byte(spec: Any, profile: Any) -> None:
    assert canonical_json(everything(made(spec, profile))) == canonical_json(everything(made(spec, profile)))


@everywhere
def test_objects__all__have_one_name_one_namespace_and_our_labels(spec: Any, profile: Any) -> None:
    objects = made(spec, profile)
    for one in everything(objects):
        assert (one["metadata"]["name"], one["metadata"]["namespace"]) == (objects.name, "team-a")
        assert one["metadata"]["labels"][VARIANT] == objects.name
        assert one["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "headgate"
        ours = [name for name in one["metadata"]["annotations"] if "headgate" in name]
        assert ours
        assert all(name.startswith(PREFIX) for name in ours)


@everywhere
def test_objects__all_but_the_anchor__are_owned_by_it(spec: Any, profile: Any) -> None:
    objects = made(spec, profile)
    assert "ownerReferences" not in objects.anchor["metadata"]
    for one in objects.owned_by("8a9f"):
        (owner,) = one["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("ConfigMap", objects.name, "8a9f")


@everywhere
def test_workload__never_says_how_many_replicas(spec: Any, profile: Any) -> None:
    """Who applies a number owns it: leaving it out later would set it back to 1."""
    (workload,) = [
        one for one in made(spec, profile).others if one["kind"] in ("Deployment", "LeaderWorkerSet")
    ]
    assert "replicas" not in workload["spec"]


@everywhere
def test_pods__all__keep_to_the_restricted_standard(spec: Any, profile: Any) -> None:
    (workload,) = [
        one for one in made(spec, profile).others if one["kind"] in ("Deployment", "LeaderWorkerSet")
    ]
    group = workload["spec"].get("leaderWorkerTemplate")
    templates = (
        [group["leaderTemplate"], group["workerTemplate"]] if group else [workload["spec"]["template"]]
    )
    for template in templates:
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in (*pod["containers"], *pod.get("initContainers", [])):
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
        allowed = {"configMap", "emptyDir", "persistentVolumeClaim", "image"}
        assert all(set(volume) - {"name"} <= allowed for volume in pod["volumes"])


@given(endpoint=st.text(min_size=1, max_size=80), version=st.integers(1, 10**9))
def test_objects__any_endpoint_name__are_legal_and_remember_the_real_one(endpoint: str, version: int) -> None:
    variant = f"{endpoint}-v{version}-3f9a1c"
    objects = made(spec_of(endpoint=endpoint, variant=variant))
    assert SERVICE_NAME.fullmatch(objects.name)
    for one in everything(objects):
        assert one["metadata"]["annotations"]["headgate.dev/variant-name"] == variant
        for labels in labels_within(one):
            assert all(
                LABEL_VALUE.fullmatch(value) and len(value) <= LONGEST_LABEL for value in labels.values()
            )


# --- the engine -----------------------------------------------------------------------------------------------------


def test_engine__command__serves_the_variants_name_before_the_endpoints() -> None:
    """The first one is what answers and metrics call the model."""
    engine = engine_in(made(spec_of(arguments={"max-model-len": 256, "chat-template": "chat.jinja"})))
    assert engine["command"] == ["vllm", "serve"]  # no shell: the engine itself is told to stop
    assert engine["args"][:4] == ["/models/current", "--served-model-name", "chat-v7-3f9a1c", "chat"]
    assert "--max-model-len=256" in engine["args"]
    assert "--chat-template=/models/current/chat.jinja" in engine["args"]
    assert "--fingerprint-value=chat-v7-3f9a1c" in engine["args"]


def test_engine__without_fingerprint__is_not_given_the_argument() -> None:
    args = engine_in(made(profile=profile_of(fingerprint=False)))["args"]
    assert not [word for word in args if "fingerprint" in word]


def test_engine__word_with_a_dollar__is_not_taken_for_a_variable() -> None:
    vllm = CONTAINER_ENGINES["vllm"]
    title = Option("title", OptionKind.TEXT, "A title.", pattern=".*")
    template = type(vllm.template)(name="vllm", argv=(), arguments=(title,), variables=(title,))
    engines = {"vllm": ContainerEngine(template, vllm.command, vllm.fixed)}
    spec = spec_of(arguments={"title": "$(HOME) $x"}, environment={"title": "$(HOME)"})
    objects = objects_of(spec, profile_of(), installation="1", engines=engines, secrets={})
    engine = engine_in(objects)
    assert "--title=$$(HOME) $$x" in engine["args"]
    assert {"name": "title", "value": "$$(HOME)"} in engine["env"]


@pytest.mark.parametrize(("asked", "stop"), [({}, 140), ({"shutdown-timeout": 600}, 600)])
def test_pod__told_to_stop__is_killed_only_after_all_its_time(asked: dict[str, int], stop: int) -> None:
    pod = pod_in(made(spec_of(arguments=asked)))
    (engine,) = pod["containers"]
    unlisted = engine["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert [word for word in engine["args"] if "shutdown" in word] == [f"--shutdown-timeout={stop}"]
    assert pod["terminationGracePeriodSeconds"] > unlisted + stop


def test_probes__startup_is_a_completion_for_as_long_as_the_spec_allows() -> None:
    engine = engine_in(made(spec_of(start_seconds=1800.0)))
    startup = engine["startupProbe"]
    assert startup["failureThreshold"] * startup["periodSeconds"] == 1800
    assert startup["exec"]["command"][-1] == "chat-v7-3f9a1c"
    assert engine["readinessProbe"]["httpGet"]["path"] == "/health"
    assert engine["livenessProbe"]["periodSeconds"] > engine["readinessProbe"]["periodSeconds"]


def test_engine__last_words__are_kept_in_its_status() -> None:
    assert engine_in(made())["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_resources__spec_and_profile__are_written_as_kubernetes_writes_them_back() -> None:
    spec = spec_of(
        resources={"memory_mb": 8192, "cpu_millis": 2500}, accelerators=Accelerators(2, "nvidia.com/gpu")
    )
    assert engine_in(made(spec))["resources"] == {
        "requests": {"cpu": "2500m", "memory": "8Gi", "ephemeral-storage": "4Gi", "nvidia.com/gpu": "2"},
        "limits": {"memory": "8Gi", "ephemeral-storage": "4Gi", "nvidia.com/gpu": "2"},
    }
    assert (size_mb(3000), size_mb(1 << 20), cores(1000)) == ("3000Mi", "1Ti", "1")


def test_secret__value__is_in_the_secret_alone() -> None:
    spec = spec_of(environment={"TOKEN": SecretFile("token")})
    vllm = CONTAINER_ENGINES["vllm"]
    variable = Option("TOKEN", OptionKind.SECRET, "A token.")
    engines = {
        "vllm": ContainerEngine(type(vllm.template)(name="vllm", argv=(), variables=(variable,)), ("x",), ())
    }
    objects = objects_of(
        spec, profile_of(), installation="1", engines=engines, secrets={"TOKEN": "the value of sentinel"}
    )
    secret = of_kind(objects, "Secret")
    assert base64.b64decode(secret["data"]["TOKEN"]) == b"the value of sentinel"
    others = json.dumps([one for one in everything(objects) if one["kind"] != "Secret"])
    assert "sentinel" not in others
    reference = {"secretKeyRef": {"name": objects.name, "key": "TOKEN"}}
    assert {"name": "TOKEN", "valueFrom": reference} in engine_in(objects)["env"]


# --- weights --------------------------------------------------------------------------------------------------------


def test_claim__files__are_read_only_in_the_manifests_folder_and_compared_first() -> None:
    pod = pod_in(made())
    (model,) = [volume for volume in pod["volumes"] if volume["name"] == "model"]
    assert model["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
    for container in (*pod["containers"], *pod["initContainers"]):
        (mount,) = [one for one in container["volumeMounts"] if one["name"] == "model"]
        assert (mount["readOnly"], mount["subPath"]) == (True, MANIFEST.folder_name)
    assert [one["name"] for one in pod["initContainers"]] == ["verify"]


def test_oci_volume__reference__is_the_source_by_digest() -> None:
    pod = pod_in(made(IN_REGISTRY, profile_of(weights=OCI)))
    (model,) = [volume for volume in pod["volumes"] if volume["name"] == "model"]
    assert model["image"]["reference"] == f"registry.example/models/chat@{DIGEST}"


def test_object_store__engine__reads_the_source_itself() -> None:
    objects = made(IN_STORE, profile_of(weights=STORE))
    engine = engine_in(objects)
    assert engine["args"][0] == "s3://models/triage/2"
    assert "--load-format=runai_streamer" in engine["args"]
    assert "initContainers" not in pod_in(objects)


def test_init_container__files__are_fetched_then_compared_and_the_engine_cannot_write_them() -> None:
    objects = made(IN_STORE, profile_of(weights=FETCHES))
    pod = pod_in(objects)
    fetch, verify = pod["initContainers"]
    assert (fetch["name"], verify["name"]) == ("fetch", "verify")
    assert fetch["args"] == ["s3://models/triage/2", "/models/current"]
    assert engine_in(objects)["volumeMounts"][0] == {
        "name": "model",
        "mountPath": "/models/current",
        "readOnly": True,
    }
    assert (
        engine_in(objects)["resources"]["limits"]["ephemeral-storage"] == "4103Mi"
    )  # its disk and the files


@pytest.mark.parametrize(
    ("source", "weights"),
    [
        ("s3://other/triage", FETCHES),
        ("s3://models/../other/triage", FETCHES),
        ("s3://models/%2e%2e/other", FETCHES),
        ("models:/m-1f3a", FETCHES),  # a pod never asks MLflow
        ("oci://registry.example/models/chat:latest", OCI),
        (f"oci://elsewhere.example/models/chat@{DIGEST}", OCI),
    ],
)
def test_source__elsewhere_or_without_a_digest__is_refused(source: str, weights: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        made(spec_of(source=source), profile_of(weights=weights))
    assert caught.value.field == "source"


# --- the others -----------------------------------------------------------------------------------------------------


def test_several_nodes__replica__is_a_leader_and_workers_of_equal_parts() -> None:
    spec = spec_of(accelerators=Accelerators(16, "nvidia.com/gpu"))
    objects = made(spec, profile_of(accelerators_per_node=8))
    group = of_kind(objects, "LeaderWorkerSet")["spec"]["leaderWorkerTemplate"]
    leader, worker = (group[f"{role}Template"]["spec"]["containers"][0] for role in ("leader", "worker"))
    assert (group["size"], group["restartPolicy"]) == (2, "RecreateGroupOnPodRestart")
    assert leader["resources"]["limits"]["nvidia.com/gpu"] == "8"
    assert "--node-rank=0" in leader["args"]
    assert {"--headless", "--node-rank=$(LWS_WORKER_INDEX)"} <= set(worker["args"])
    assert "readinessProbe" not in worker
    service = of_kind(objects, "Service")["spec"]["selector"]
    assert service["headgate.dev/role"] == group["leaderTemplate"]["metadata"]["labels"]["headgate.dev/role"]


def test_service__one_node__finds_all_pods_of_the_variant_and_no_other() -> None:
    objects = made()
    selector = of_kind(objects, "Service")["spec"]["selector"]
    labels = of_kind(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert selector == {VARIANT: objects.name}
    assert selector.items() <= labels.items()


def test_network__nothing_declared__lets_nobody_in_and_only_names_out() -> None:
    spec = of_kind(made(), "NetworkPolicy")["spec"]
    assert spec["ingress"] == []
    assert [port["port"] for rule in spec["egress"] for port in rule["ports"]] == [53, 53]


def test_network__gateway_and_store__are_let_through() -> None:
    profile = profile_of(gateway_namespaces=["gateway"], metrics_namespaces=["monitoring"], weights=FETCHES)
    spec = of_kind(made(IN_STORE, profile), "NetworkPolicy")["spec"]
    (rule,) = spec["ingress"]
    assert len(rule["from"]) == 2
    assert rule["ports"] == [{"protocol": "TCP", "port": 8000}]
    assert spec["egress"][1] == {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}


@pytest.mark.parametrize(
    ("kind", "made_kind"), [("keda", "ScaledObject"), ("hpa", "HorizontalPodAutoscaler")]
)
def test_autoscaler__of_a_kind__is_the_only_one_and_never_below_the_specs_replicas(
    kind: str, made_kind: str
) -> None:
    profile = profile_of(autoscaler={"kind": kind, "most": 2, "prometheus": "http://prometheus:9090"})
    objects = made(spec_of(replicas=3), profile)
    kinds = [one["kind"] for one in objects.others]
    assert [one for one in kinds if one in ("ScaledObject", "HorizontalPodAutoscaler")] == [made_kind]
    spec = of_kind(objects, made_kind)["spec"]
    bounds = {value for name, value in spec.items() if name.startswith(("min", "max"))}
    assert bounds == {3}


def test_autoscaler__odd_names__are_quoted_in_its_query() -> None:
    profile = profile_of(autoscaler={"kind": "keda", "most": 2, "prometheus": "http://prometheus:9090"})
    objects = made(spec_of(variant='chat"} or vector(9) #'), profile)
    (trigger,) = of_kind(objects, "ScaledObject")["spec"]["triggers"]
    assert r'model_name="chat\"} or vector(9) #"' in trigger["metadata"]["query"]


def test_queue__of_the_profile__is_on_the_workload_alone() -> None:
    objects = made(profile=profile_of(queue="team-a", labels={"cost-centre": "4711"}))
    queued = [
        one["kind"] for one in objects.others if "kueue.x-k8s.io/queue-name" in one["metadata"]["labels"]
    ]
    assert queued == ["Deployment"]
    assert all(one["metadata"]["labels"]["cost-centre"] == "4711" for one in everything(objects))


def test_pod__where_it_may_run__is_as_the_profile_says() -> None:
    profile = profile_of(
        node_labels={"pool": "gpu"},
        tolerations=[{"key": "nvidia.com/gpu", "effect": "NoSchedule"}],
        node_rules=[{"label": "nvidia.com/gpu.count", "operator": "Gt", "values": ["1"]}],
        priority_class="llm-serving",
        scheduler="volcano",
        pull_secrets=["registry-login"],
    )
    pod = pod_in(made(profile=profile))
    assert pod["nodeSelector"] == {"pool": "gpu"}
    assert pod["tolerations"][0] == {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
    assert {one.get("tolerationSeconds") for one in pod["tolerations"][1:]} == {60}
    assert (pod["priorityClassName"], pod["schedulerName"]) == ("llm-serving", "volcano")
    assert pod["imagePullSecrets"] == [{"name": "registry-login"}]
    assert "nvidia.com/gpu.count" in json.dumps(pod["affinity"])


# --- what is refused, and what is kept --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"engine": "other"}, "engine"),
        ({"arguments": {"trust-remote-code": True}}, "arguments.trust-remote-code"),
        ({"environment": {"LD_PRELOAD": "/x"}}, "environment.LD_PRELOAD"),
        ({"replicas": 9}, "replicas"),
        ({"image": Image("elsewhere.example/vllm", digest=DIGEST)}, "image"),
        ({"image": Image("registry.example/vllm", tag="v1")}, "image"),
        ({"accelerators": Accelerators(1, "amd.com/gpu")}, "accelerators.resource"),
        ({"accelerators": Accelerators(12, "nvidia.com/gpu")}, "accelerators.count"),
        ({"resources": {"disk_gb": 1}}, "resources.disk_gb"),
    ],
)
def test_spec__what_cannot_be_had__names_its_field(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        made(spec_of(**change), profile_of(accelerators_per_node=8))
    assert caught.value.field == field


def test_record__of_any_launch__gives_the_same_spec_back() -> None:
    spec = spec_of(
        arguments={"max-model-len": 256, "enforce-eager": True},
        environment={"OMP_NUM_THREADS": "2", "TOKEN": SealedSecret("gAAAA", "9f2c"), "B": SecretFile("b")},
        resources={"memory_mb": 3000},
        replicas=3,
        image=Image("registry.example/vllm", digest=DIGEST),
        accelerators=Accelerators(2, "nvidia.com/gpu"),
    )
    assert spec_in(record_of(spec)) == spec
