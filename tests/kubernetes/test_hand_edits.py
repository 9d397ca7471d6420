"""What other hands do to workloads on the real control plane: only a real API server notes who set which field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes.dynamic import DynamicClient

from rollouts.adapters.clusters.kubernetes.client import CONFIG_MAP, DEPLOYMENTS, MERGE
from rollouts.adapters.clusters.kubernetes.connection import api_client
from rollouts.adapters.clusters.kubernetes.drift import SOMEBODY
from rollouts.domain.engines import WorkloadPhase
from rollouts.ports import WorkloadSpec
from tests.kubernetes.lab import ENGINE, KubernetesLab
from tests.kubernetes.workloads import PATIENCE_SECONDS, WorkloadBench, put, spec_absent
from tests.standins.running import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.whole,
    pytest.mark.needs("root", "namespaces", "envoy", "kubernetes"),
]

NAMESPACE = "hands"
ALTERED = "the arguments of engine, by kubectl-edit"
OTHER_IMAGE = f"{ENGINE}@sha256:{'1' * 64}"


@pytest.fixture(scope="module")
def bench(kubernetes_lab: KubernetesLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkloadBench]:
    made = WorkloadBench(kubernetes_lab, tmp_path_factory.mktemp("headgate"), NAMESPACE)
    yield made
    made.cluster.close()


def by_hand(bench: WorkloadBench, spec: WorkloadSpec, change: dict[str, Any], part: str = "") -> None:
    """An administrator's merge patch of the Deployment, as `kubectl` sends it."""
    api = api_client(bench.lab.kubeconfig.read_text(), bench.folder / "hand")
    hand = DynamicClient(api, cache_file=str(bench.folder / "discovered"))
    path = DEPLOYMENTS.path(NAMESPACE, spec.variant, part)
    hand.request("patch", path, body=change, content_type=MERGE, field_manager="kubectl-edit")
    api.close()


def template(**pod: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": pod}}}


def engine_of(bench: WorkloadBench, spec: WorkloadSpec) -> dict[str, Any]:
    seen = bench.admin.get(DEPLOYMENTS, spec.variant)
    assert seen is not None
    (engine,) = [one for one in seen["spec"]["template"]["spec"]["containers"] if one["name"] == "engine"]
    found: dict[str, Any] = engine
    return found


def drift(bench: WorkloadBench, spec: WorkloadSpec) -> str:
    return (bench.status(spec) or spec_absent(spec)).drift


def until_drift(bench: WorkloadBench, spec: WorkloadSpec, words: str) -> str:
    wait_until(f"it says {words!r}", lambda: words in drift(bench, spec), PATIENCE_SECONDS)
    return drift(bench, spec)


def test_nobody_changed_anything__with_all_that_controllers_write__is_no_drift(bench: WorkloadBench) -> None:
    spec = bench.running(replicas=2, arguments={"max-model-len": 256}, environment={"OMP_NUM_THREADS": "2"})
    wait_until(
        "both are ready", lambda: (bench.status(spec) or spec_absent(spec)).ready == 2, PATIENCE_SECONDS
    )
    assert drift(bench, spec) == ""


def test_image_and_arguments__changed_by_hand__are_said_with_the_hand_and_left_so(
    bench: WorkloadBench,
) -> None:
    spec = bench.running()
    engine = engine_of(bench, spec)
    launched = engine["image"]
    engine["image"], engine["args"] = OTHER_IMAGE, [*engine.get("args", []), "--seed=7"]
    by_hand(bench, spec, template(containers=[engine]))
    said = until_drift(bench, spec, "the image of engine")
    assert f"the image of engine is {OTHER_IMAGE}, launched was {launched}" in said
    assert "the arguments of engine" in said
    assert "(by kubectl-edit)" in said
    bench.cluster.ensure(spec, token=6)
    assert engine_of(bench, spec)["image"] == OTHER_IMAGE


def test_arguments__changed_and_set_back__are_not_what_was_asked_for_until_the_last_such_pod_has_ended(
    bench: WorkloadBench,
) -> None:
    spec = bench.running()
    first = {pod["metadata"]["uid"] for pod in bench.pods(spec)}
    engine = engine_of(bench, spec)
    asked = list(engine.get("args", []))
    engine["args"] = [*asked, "--seed=7"]
    by_hand(bench, spec, template(containers=[engine]))
    wait_until("it says so", lambda: altered(bench, spec) == ALTERED, PATIENCE_SECONDS)
    wait_until("another pod runs", lambda: uids(bench, spec).isdisjoint(first), PATIENCE_SECONDS)
    changed = uids(bench, spec)
    assert altered(bench, spec) == ALTERED
    by_hand(bench, spec, template(containers=[{**engine, "args": asked}]))
    said = set()

    def undone() -> bool:
        words = altered(bench, spec)
        there = uids(bench, spec)  # after what was said: one that ended in between may be in the words still
        said.add(words)
        assert words or not changed & there
        return not words and not changed & there

    wait_until("it is as it was asked for", undone, PATIENCE_SECONDS)
    assert "its pods, of which some are from before the last change" in said


def altered(bench: WorkloadBench, spec: WorkloadSpec) -> str:
    return (bench.status(spec) or spec_absent(spec)).altered


def uids(bench: WorkloadBench, spec: WorkloadSpec) -> set[str]:
    """Of its pods, those that are being stopped too, until their last container has ended."""
    there = [pod for pod in bench.pods(spec) if pod["status"].get("phase") not in ("Failed", "Succeeded")]
    return {pod["metadata"]["uid"] for pod in there}


def test_variable__taken_away_by_hand__is_said_though_nobody_owns_it(bench: WorkloadBench) -> None:
    spec = bench.running(environment={"OMP_NUM_THREADS": "2"})
    engine = engine_of(bench, spec)
    engine["env"] = [one for one in engine["env"] if one["name"] != "OMP_NUM_THREADS"]
    by_hand(bench, spec, template(containers=[engine]))
    assert "the environment of engine" in until_drift(bench, spec, "Changed by hand")


def test_restart__by_hand__is_said_as_a_note_of_its_pods(bench: WorkloadBench) -> None:
    spec = bench.running()
    note = {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}}
    by_hand(bench, spec, {"spec": {"template": {"metadata": note}}})
    assert until_drift(bench, spec, "restartedAt") == (
        "Changed by hand: annotations: kubectl.kubernetes.io/restartedAt of its pods (by kubectl-edit)."
    )


@pytest.mark.parametrize(
    ("part", "who"), [("", "kubectl-edit"), ("scale", SOMEBODY)], ids=["edited", "scaled"]
)
def test_replicas__fewer_by_hand__are_not_whole_and_say_who(
    bench: WorkloadBench, part: str, who: str
) -> None:
    """Who scales a count that nobody owned is not noted by an API server."""
    spec = bench.running(replicas=2)
    wait_until(
        "both are ready", lambda: (bench.status(spec) or spec_absent(spec)).ready == 2, PATIENCE_SECONDS
    )
    by_hand(bench, spec, {"spec": {"replicas": 1}}, part)
    words = "1 replica is asked for instead of 2"
    assert until_drift(bench, spec, words) == f"Changed by hand: {words} (by {who})."
    wait_until("one is left", lambda: (bench.status(spec) or spec_absent(spec)).ready == 1, PATIENCE_SECONDS)
    status = bench.status(spec)
    assert status is not None
    assert (status.phase, status.desired, status.view.is_whole) == (WorkloadPhase.READY, 2, False)
    assert status.message == f"{words} (set by {who})."
    by_hand(bench, spec, {"spec": {"replicas": 2}}, part)
    wait_until("it is as it was launched", lambda: drift(bench, spec) == "", PATIENCE_SECONDS)


def test_workload__deleted_by_hand__is_absent_in_words_and_made_again(bench: WorkloadBench) -> None:
    spec = bench.running()
    seen = bench.admin.get(DEPLOYMENTS, spec.variant)
    assert seen is not None
    bench.admin.delete(DEPLOYMENTS, spec.variant, seen["metadata"]["uid"])
    status = bench.until(spec, WorkloadPhase.ABSENT)
    assert status.message == "Somebody deleted its workload in the cluster; it is launched again."
    bench.cluster.ensure(spec, token=6)
    assert bench.until(spec, WorkloadPhase.READY).drift == ""


def test_take_away__with_the_least_role__leaves_nothing_and_no_other_uid(bench: WorkloadBench) -> None:
    spec = bench.running()
    (seen,) = [one for one in bench.cluster.belongings().launches if one.variant == spec.variant]
    anchor = bench.admin.get(CONFIG_MAP, spec.variant)
    assert anchor is not None
    put(
        bench.lab,
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": spec.variant,
                "namespace": NAMESPACE,
                "annotations": {"team.example/note": "mine"},
            },
        },
    )
    assert not bench.cluster.take_away(seen)  # somebody touched it since
    (fresh,) = [one for one in bench.cluster.belongings().launches if one.variant == spec.variant]
    assert bench.cluster.take_away(fresh)
    wait_until("all of it is gone", lambda: bench.objects(spec) == {}, PATIENCE_SECONDS)


def test_workload__left_behind_without_its_anchor__is_told_for_a_person(bench: WorkloadBench) -> None:
    """As `kubectl delete configmap --cascade=orphan` leaves it."""
    spec = bench.running()
    by_hand(bench, spec, {"metadata": {"ownerReferences": None}})
    anchor = bench.admin.get(CONFIG_MAP, spec.variant)
    assert anchor is not None
    bench.admin.delete(CONFIG_MAP, spec.variant, anchor["metadata"]["uid"])
    wait_until(
        "the anchor is gone",
        lambda: bench.admin.get(CONFIG_MAP, spec.variant) is None,
        PATIENCE_SECONDS,
    )
    (left,) = [one for one in bench.cluster.belongings().launches if one.variant == spec.variant]
    assert (left.where, left.by_hand.endswith("delete it by hand.")) == (f"Deployment {spec.variant}", True)
    assert not bench.cluster.take_away(left)


def test_server__of_somebody_else__is_told_with_its_model(bench: WorkloadBench) -> None:
    labels = {"app": "llama"}
    container = {
        "name": "server",
        "image": "vllm/vllm-openai:v0.9",
        "args": ["--model", "meta/llama"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod = {
        "containers": [container],
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
    }  # fmt: skip
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "llama", "namespace": NAMESPACE},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    put(bench.lab, body)
    (server,) = bench.cluster.belongings().servers
    assert (server.where, server.model, server.image) == (
        "Deployment llama",
        "meta/llama",
        "vllm/vllm-openai:v0.9",
    )
    assert server.made_at is not None
