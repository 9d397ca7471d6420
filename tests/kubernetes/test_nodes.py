"""The lab's nodes do with pods what a kubelet does, as far as traffic and diagnosis can tell."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kubernetes.lab import ENGINE, KubernetesLab
from tests.kubernetes.objects import PATIENCE_SECONDS, Cluster, namespace
from tests.standins.running import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.whole,
    pytest.mark.needs("root", "namespaces", "envoy", "kubernetes"),
]


@pytest.fixture
def cluster(kubernetes_lab: KubernetesLab, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    name = "nodes-" + str(abs(hash(request.node.name)))[:8]
    with namespace(kubernetes_lab, name) as made:
        yield made


def waits_for(status: dict[str, object]) -> str:
    state = status["state"]
    assert isinstance(state, dict)
    waiting = state.get("waiting") or {}
    return str(waiting.get("reason", ""))


def test_container__ends_with_an_error__is_restarted_with_back_off_and_its_log_is_kept(
    cluster: Cluster,
) -> None:
    cluster.run(
        "crashes",
        args=["model", "--served-model-name", "crashes"],
        env=[{"name": "STANDIN", "value": "--fail 'CUDA out of memory'"}],
        terminationMessagePolicy="FallbackToLogsOnError",
    )
    pod = cluster.wait_for_pod(
        "crashes", "backs off", lambda it: waits_for(it) == "CrashLoopBackOff" and it["restartCount"] >= 1
    )
    status = pod["status"]["containerStatuses"][0]
    ended = status["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (1, "Error")
    assert "CUDA out of memory" in ended["message"]
    resource = cluster.client.resources.get(api_version="v1", kind="Pod")
    told = cluster.client.request(
        "get",
        f"{resource.path(name=pod['metadata']['name'], namespace=cluster.namespace)}/log?tailLines=5",
        serialize=False,
    )
    assert b"CUDA out of memory" in told.data


def test_container__out_of_memory_at_a_tests_wish__is_said_to_be(
    kubernetes_lab: KubernetesLab, cluster: Cluster
) -> None:
    cluster.run("grows")
    cluster.wait_until_available("grows")
    name = cluster.pods("grows")[0]["metadata"]["name"]
    kubernetes_lab.run_out_of_memory(cluster.namespace, name, "engine")
    pod = cluster.wait_for_pod("grows", "was restarted", lambda it: it["restartCount"] == 1)
    ended = pod["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")


def test_image__unknown__cannot_be_pulled_until_it_is_published(
    kubernetes_lab: KubernetesLab, cluster: Cluster
) -> None:
    image = "registry.test:5000/unheard/of@sha256:" + "0" * 64
    cluster.run("pulls", image=image)
    pod = cluster.wait_for_pod(
        "pulls", "cannot be pulled", lambda it: waits_for(it) in ("ErrImagePull", "ImagePullBackOff")
    )
    assert image in pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
    kubernetes_lab.publish_image(image)
    cluster.wait_until_available("pulls")


def test_startup_probe__never_passes__the_container_is_restarted(cluster: Cluster) -> None:
    probe = {"httpGet": {"path": "/nothing", "port": "http"}, "periodSeconds": 1, "failureThreshold": 2}
    cluster.run("slow", startupProbe=probe)
    pod = cluster.wait_for_pod("slow", "was restarted", lambda it: it["restartCount"] >= 1)
    assert not pod["status"]["containerStatuses"][0]["ready"]


def test_pod__deleted__serves_during_pre_stop_and_then_ends(cluster: Cluster) -> None:
    cluster.run("leaves", lifecycle={"preStop": {"sleep": {"seconds": 3}}})
    cluster.wait_until_available("leaves")
    pod = cluster.pods("leaves")[0]
    resource = cluster.client.resources.get(api_version="apps/v1", kind="Deployment")
    resource.delete(name="leaves", namespace=cluster.namespace, propagation_policy="Background")

    def leaving() -> bool:
        return bool(cluster.pods("leaves")[0]["metadata"].get("deletionTimestamp"))

    wait_until("the pod is being deleted", leaving, PATIENCE_SECONDS)
    assert "running" in cluster.pods("leaves")[0]["status"]["containerStatuses"][0]["state"]
    wait_until("the pod is gone", lambda: not cluster.pods("leaves"), PATIENCE_SECONDS)
    assert pod["status"]["podIP"]


def test_pod__deaf_to_sigterm__is_killed_after_its_grace_period(cluster: Cluster) -> None:
    container = {"name": "deaf", "image": f"{ENGINE}:1", "command": ["sleep", "1000"]}
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "deaf", "labels": {"app": "deaf"}},
            "spec": {"terminationGracePeriodSeconds": 3, "containers": [container]},
        }
    )
    cluster.wait_for_pod("deaf", "runs", lambda it: it["ready"])
    began = time.monotonic()
    cluster.client.resources.get(api_version="v1", kind="Pod").delete(
        name="deaf", namespace=cluster.namespace
    )
    wait_until("the pod is gone", lambda: not cluster.pods("deaf"), PATIENCE_SECONDS)
    assert time.monotonic() - began > 2.5


def test_container__its_secret_is_missing__waits_until_there_is_one(cluster: Cluster) -> None:
    reference = {"secretKeyRef": {"name": "key", "key": "value"}}
    cluster.run("asks", env=[{"name": "VLLM_API_KEY", "valueFrom": reference}])
    pod = cluster.wait_for_pod(
        "asks", "cannot be configured", lambda it: waits_for(it) == "CreateContainerConfigError"
    )
    assert 'secret "key" not found' in str(pod["status"]["containerStatuses"][0]["state"])
    cluster.create(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"value": "x"}}
    )
    cluster.wait_until_available("asks")


def test_node__lost_with_its_pods_and_back_soon__containers_are_started_again(
    kubernetes_lab: KubernetesLab, cluster: Cluster
) -> None:
    cluster.run("engine")
    cluster.wait_until_available("engine")
    node = cluster.pods("engine")[0]["spec"]["nodeName"]
    kubernetes_lab.silence_node(node, kill=True)
    kubernetes_lab.wake_node(node)
    cluster.wait_for_pod("engine", "was restarted", lambda it: it["restartCount"] == 1 and it["ready"])


def test_node__taken_for_lost_while_the_api_server_was_away__says_that_it_is_there(
    kubernetes_lab: KubernetesLab,
) -> None:
    client = kubernetes_lab.client()
    nodes = client.resources.get(api_version="v1", kind="Node")

    def ready(node: str) -> str:
        return str(next(c.status for c in nodes.get(name=node).status.conditions if c.type == "Ready"))

    try:
        node = nodes.get().items[0].metadata.name
        lost = {
            "status": {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]}
        }
        nodes.status.patch(name=node, body=lost, content_type="application/strategic-merge-patch+json")
        assert ready(node) == "Unknown"
        wait_until("the node is ready again", lambda: ready(node) == "True", 15)
    finally:
        client.client.close()


def test_pod__asks_for_more_gpus_than_a_node_has__is_not_scheduled(cluster: Cluster) -> None:
    cluster.run("large", image=f"{ENGINE}:2", resources={"limits": {"nvidia.com/gpu": "9"}})

    def refused() -> str:
        for pod in cluster.pods("large"):
            for condition in (pod.get("status") or {}).get("conditions") or []:
                if condition["type"] == "PodScheduled" and condition["status"] == "False":
                    return str(condition["message"])
        return ""

    said = wait_until("the scheduler says why", refused, PATIENCE_SECONDS)
    assert "3 Insufficient nvidia.com/gpu" in said


def test_init_container__in_a_pod__ends_well_before_the_engine_starts(cluster: Cluster) -> None:
    content = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "prepared", "labels": {"app": "prepared"}},
        "spec": {
            "initContainers": [
                {"name": "first", "image": f"{ENGINE}:1", "command": ["sh", "-c", "echo prepared"]}
            ],
            "containers": [
                {"name": "engine", "image": f"{ENGINE}:1", "args": ["model", "--served-model-name=prepared"]}
            ],
        },
    }
    cluster.create(content)
    pod = cluster.wait_for_pod("prepared", "runs", lambda it: it["ready"])
    first = pod["status"]["initContainerStatuses"][0]["state"]["terminated"]
    assert first["exitCode"] == 0


# --- volumes ----------------------------------------------------------------------------------------------------------

CLAIM = {"name": "models", "persistentVolumeClaim": {"claimName": "models", "readOnly": True}}


def run_script(
    cluster: Cluster, script: str, *, volumes: list[dict[str, Any]], mounts: list[dict[str, Any]]
) -> dict[str, Any]:
    """A pod that runs a shell script once; its container's status when that has ended."""
    container = {
        "name": "script", "image": f"{ENGINE}:1", "command": ["sh", "-ec", script], "volumeMounts": mounts,
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }  # fmt: skip
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "script", "labels": {"app": "script"}},
            "spec": {"restartPolicy": "Never", "containers": [container], "volumes": volumes},
        }
    )
    pod = cluster.wait_for_pod("script", "has ended", lambda it: "terminated" in it["state"])
    ended: dict[str, Any] = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    return ended


def test_claim__a_folder_of_it_at_a_place_that_the_machine_has_not__shows_its_files_to_the_container_alone(
    kubernetes_lab: KubernetesLab, cluster: Cluster
) -> None:
    folder = kubernetes_lab.make_claim(cluster.namespace, "models")
    (folder / "v1").mkdir()
    (folder / "v1" / "weights").write_text("seven")
    mounts = [{"name": "models", "mountPath": "/home/engine/models", "subPath": "v1", "readOnly": True}]
    script = (
        'test "$(ls /home/engine/models)" = weights && cat /home/engine/models/weights >/dev/termination-log'
    )
    ended = run_script(cluster, script, volumes=[CLAIM], mounts=mounts)
    assert (ended["exitCode"], ended.get("message")) == (0, "seven")
    assert not Path("/home/engine").exists()
    assert not Path("/dev/termination-log").exists()


def test_claim__written_to_where_it_is_read_only__stays_as_it_is(
    kubernetes_lab: KubernetesLab, cluster: Cluster
) -> None:
    folder = kubernetes_lab.make_claim(cluster.namespace, "models")
    mounts = [{"name": "models", "mountPath": "/models"}]
    ended = run_script(cluster, "echo x >/models/new", volumes=[CLAIM], mounts=mounts)
    assert ended["exitCode"] != 0
    assert "Read-only file system" in ended["message"]
    assert list(folder.iterdir()) == []


def test_claim__without_the_folder_that_a_container_asks_for__is_said_as_a_kubelet_says_it(
    kubernetes_lab: KubernetesLab, cluster: Cluster
) -> None:
    folder = kubernetes_lab.make_claim(cluster.namespace, "models")
    container = {
        "name": "engine", "image": f"{ENGINE}:1", "command": ["sleep", "1000"],
        "volumeMounts": [{"name": "models", "mountPath": "/models", "subPath": "v1"}],
    }  # fmt: skip
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "asks", "labels": {"app": "asks"}},
            "spec": {"containers": [container], "volumes": [CLAIM]},
        }
    )
    pod = cluster.wait_for_pod("asks", "waits", lambda it: waits_for(it) == "CreateContainerConfigError")
    said = pod["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
    assert said == 'failed to create subPath directory for volumeMount "models" of container "engine"'
    (folder / "v1").mkdir()
    cluster.wait_for_pod("asks", "runs", lambda it: it["ready"])


def test_empty_volume__of_a_pod__is_shared_by_its_containers_and_hides_what_the_machine_has_there(
    cluster: Cluster,
) -> None:
    volumes: list[dict[str, Any]] = [
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
    ]
    mounts = [{"name": "tmp", "mountPath": "/tmp"}, {"name": "shm", "mountPath": "/dev/shm"}]
    write = {
        "name": "write", "image": f"{ENGINE}:1", "volumeMounts": mounts,
        "command": ["sh", "-ec", "echo one >/tmp/shared; echo two >/dev/shm/shared"],
    }  # fmt: skip
    read = {
        "name": "read", "image": f"{ENGINE}:1", "volumeMounts": mounts,
        "command": ["sh", "-ec", "cat /tmp/shared /dev/shm/shared >/dev/termination-log"],
    }  # fmt: skip
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "shares", "labels": {"app": "shares"}},
            "spec": {
                "restartPolicy": "Never",
                "initContainers": [write],
                "containers": [read],
                "volumes": volumes,
            },
        }
    )
    pod = cluster.wait_for_pod("shares", "has ended", lambda it: "terminated" in it["state"])
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"] == "one\ntwo\n"
    assert not Path("/tmp/shared").exists()


def test_config_map__named_items_of_it__are_files_and_come_when_it_is_made(cluster: Cluster) -> None:
    volume = {
        "name": "record",
        "configMap": {"name": "record", "items": [{"key": "a.json", "path": "b.json"}]},
    }
    container = {
        "name": "engine", "image": f"{ENGINE}:1", "command": ["sh", "-c", "cat /record/*; sleep 1000"],
        "volumeMounts": [{"name": "record", "mountPath": "/record"}],
        "readinessProbe": {"exec": {"command": ["grep", "-q", "seven", "/record/b.json"]}, "periodSeconds": 1},
    }  # fmt: skip
    cluster.create(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "reads", "labels": {"app": "reads"}},
            "spec": {"containers": [container], "volumes": [volume]},
        }
    )

    def told() -> list[str]:
        events = cluster.client.resources.get(api_version="v1", kind="Event")
        return [
            one.message
            for one in events.get(namespace=cluster.namespace).items
            if one.reason == "FailedMount"
        ]

    wait_until("the node says what is missing", told, PATIENCE_SECONDS)
    assert told() == ['configmap "record" not found']
    data = {"a.json": "seven", "other": "is not asked for"}
    cluster.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "record"}, "data": data})
    cluster.wait_for_pod("reads", "sees the file, and its probe does", lambda it: it["ready"])
