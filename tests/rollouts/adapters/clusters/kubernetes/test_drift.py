"""What somebody changed of a workload: what the sentence says of it, and what is no change."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from rollouts.adapters.clusters.kubernetes.drift import SOMEBODY, drift_of
from rollouts.adapters.clusters.kubernetes.record import workload_in
from rollouts.domain.accelerators import Accelerators
from tests.rollouts.adapters.clusters.kubernetes.profiles import DIGEST, IMAGE, profile_of
from tests.rollouts.adapters.clusters.kubernetes.specs import made, of_kind, spec_of

ENGINE = 'k:{"name":"engine"}'
EDIT = "kubectl-edit"
OTHER = f"registry.example/vllm@sha256:{'9' * 64}"
WRITTEN = workload_in(made(spec_of(environment={"OMP_NUM_THREADS": "2"})).anchor["data"])


def entry(manager: str, fields: dict[str, Any], *, subresource: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {"manager": manager, "operation": "Update", "fieldsV1": fields}
    return found | ({"subresource": subresource} if subresource else {})


def of_engine(field: str, value: dict[str, Any] | None = None) -> dict[str, Any]:
    """The field of the engine's container, as the API server writes who owns it."""
    containers = {"f:containers": {ENGINE: {".": {}, f"f:{field}": value or {}}}}
    return {"f:spec": {"f:template": {"f:spec": containers}}}


COUNT: dict[str, Any] = {"f:spec": {"f:replicas": {}}}


def workload(*entries: dict[str, Any], **spec: Any) -> dict[str, Any]:
    objects = made(spec_of(environment={"OMP_NUM_THREADS": "2"}))
    body: dict[str, Any] = copy.deepcopy(of_kind(objects, "Deployment"))
    body["metadata"]["managedFields"] = list(entries)
    body["spec"] |= {"replicas": 2, **spec}
    return body


def engine_of(body: dict[str, Any]) -> dict[str, Any]:
    (engine,) = body["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = engine
    return found


def said(body: dict[str, Any], *, replicas: int | None = 2, autoscaled: bool = False) -> str:
    return drift_of(body, WRITTEN, replicas=replicas, autoscaled=autoscaled).sentence


def altered(body: dict[str, Any], *, replicas: int | None = 2) -> str:
    return drift_of(body, WRITTEN, replicas=replicas, autoscaled=False).altered


def test_drift__as_it_was_written__is_none() -> None:
    ours = entry("headgate", of_engine("image"))
    controller = entry("kube-controller-manager", {"f:status": {"f:replicas": {}}}, subresource="status")
    body = workload(ours, entry("headgate-scaler", COUNT, subresource="scale"), controller)
    body["spec"]["template"]["spec"]["dnsPolicy"] = "ClusterFirst"  # a default of the API server
    assert said(body) == ""


def test_drift__another_image__names_both_and_the_hand() -> None:
    body = workload(entry(EDIT, of_engine("image")))
    engine_of(body)["image"] = OTHER
    assert said(body) == (
        f"Changed by hand: the image of engine is {OTHER}, launched was {IMAGE} (by kubectl-edit)."
    )


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("args", ["--api-key", "sentinel"], "the arguments of engine"),
        ("command", ["sh", "-c", "sentinel"], "the command of engine"),
        ("env", [{"name": "OMP_NUM_THREADS", "value": "sentinel"}], "the environment of engine"),
        ("workingDir", "/sentinel", "the workingDir of engine"),
    ],
)
def test_drift__what_may_hold_a_secret__is_named_and_not_quoted(field: str, value: Any, words: str) -> None:
    body = workload(entry(EDIT, of_engine(field)))
    engine_of(body)[field] = value
    found = said(body)
    assert words in found
    assert "kubectl-edit" in found
    assert "sentinel" not in found


def test_drift__something_taken_away__is_seen_though_nobody_owns_it() -> None:
    body = workload()
    engine_of(body)["env"] = [one for one in engine_of(body)["env"] if one["name"] != "OMP_NUM_THREADS"]
    assert said(body) == (
        "Changed by hand: the environment of engine (by somebody whom the cluster does not name)."
    )


def test_drift__restarted_by_hand__says_which_note_of_the_pods_and_whose() -> None:
    note: dict[str, Any] = {"f:annotations": {"f:kubectl.kubernetes.io/restartedAt": {}}}
    body = workload(entry("kubectl-rollout", {"f:spec": {"f:template": {"f:metadata": note}}}))
    body["spec"]["template"]["metadata"]["annotations"]["kubectl.kubernetes.io/restartedAt"] = "2026"
    words = "annotations: kubectl.kubernetes.io/restartedAt of its pods (by kubectl-rollout)"
    assert said(body) == f"Changed by hand: {words}."


def test_drift__container_that_somebody_added__is_named() -> None:
    added: dict[str, Any] = {"f:containers": {'k:{"name":"debugger"}': {".": {}, "f:image": {}}}}
    body = workload(entry(EDIT, {"f:spec": {"f:template": {"f:spec": added}}}))
    body["spec"]["template"]["spec"]["containers"].append({"name": "debugger", "image": "busybox"})
    assert said(body) == "Changed by hand: the image of debugger is busybox (by kubectl-edit)."


def test_drift__two_hands__each_with_its_own() -> None:
    body = workload(entry(EDIT, of_engine("args")), entry("kubectl", COUNT, subresource="scale"), replicas=1)
    engine_of(body)["args"] = []
    assert said(body) == (
        "Changed by hand: 1 replica is asked for instead of 2 (by kubectl); the arguments of engine (by kubectl-edit)."
    )


def test_drift__more_than_anybody_reads__names_some_and_counts_the_rest() -> None:
    fields = ("args", "command", "resources", "image", "workingDir", "tty")
    body = workload(*[entry(EDIT, of_engine(field)) for field in fields])
    engine_of(body).update(dict.fromkeys(fields, "other"))
    assert said(body).endswith("; and 2 more.")


def test_drift__set_back_by_whoever_changed_it__is_none_although_that_one_owns_it_now() -> None:
    body = workload(entry(EDIT, of_engine("image")), entry(EDIT, of_engine("args")))
    assert (said(body), altered(body)) == ("", "")


def test_drift__field_that_we_own_too__is_none() -> None:
    """Somebody applied what was there already."""
    assert said(workload(entry("headgate", of_engine("image")), entry(EDIT, of_engine("image")))) == ""


def test_drift__launch_of_which_no_workload_was_kept__is_known_by_its_owners() -> None:
    body = workload(entry(EDIT, of_engine("args")))
    spoilt: tuple[object, ...] = (None, [], "x", {"spec": None}, {"spec": 7})
    for kept in spoilt:
        found = drift_of(body, kept, replicas=2, autoscaled=False).sentence
        assert found == "Changed by hand: the arguments of engine (by kubectl-edit)."


@pytest.mark.parametrize(
    ("count", "by", "autoscaled", "words"),
    [
        (3, "kubectl", False, "3 replicas are asked for instead of 2 (by kubectl)"),
        (1, "kubectl", True, "1 replica is asked for instead of 2 (by kubectl)"),
        (0, "kubectl", False, "0 replicas are asked for instead of 2 (by kubectl)"),
        (3, "kube-controller-manager", True, ""),
        (2, "kubectl", False, ""),
        (1, "headgate-scaler", False, f"1 replica is asked for instead of 2 (by {SOMEBODY})"),
    ],
)
def test_replicas__set_by_somebody__are_drift_unless_an_autoscaler_added_them(
    count: int, by: str, autoscaled: bool, words: str
) -> None:
    body = workload(entry(by, COUNT, subresource="scale"), replicas=count)
    assert said(body, autoscaled=autoscaled) == (f"Changed by hand: {words}." if words else "")


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("image", OTHER, f"the image of engine is {OTHER}, launched was {IMAGE}, by kubectl-edit"),
        ("args", [], "the arguments of engine, by kubectl-edit"),
        ("env", [], "the environment of engine, by kubectl-edit"),
    ],
)
def test_altered__what_the_engine_runs__is_so_with_the_hand(field: str, value: Any, words: str) -> None:
    body = workload(entry(EDIT, of_engine(field)))
    engine_of(body)[field] = value
    assert altered(body) == words


def test_altered__of_several_nodes__is_so_whichever_pod_it_is() -> None:
    objects = made(
        spec_of(accelerators=Accelerators(8, "nvidia.com/gpu")), profile_of(accelerators_per_node=4)
    )
    body = copy.deepcopy(of_kind(objects, "LeaderWorkerSet"))
    group = body["spec"]["leaderWorkerTemplate"]
    group["workerTemplate"]["spec"]["containers"][0]["args"] = ["--other"]
    found = drift_of(body, workload_in(objects.anchor["data"]), replicas=1, autoscaled=False)
    assert found.altered == f"the arguments of engine, by {SOMEBODY}"


def test_altered__count_of_replicas_and_notes_at_pods__is_not() -> None:
    note: dict[str, Any] = {"f:annotations": {"f:kubectl.kubernetes.io/restartedAt": {}}}
    hands = (
        entry("kubectl-rollout", {"f:spec": {"f:template": {"f:metadata": note}}}),
        entry("kubectl", COUNT, subresource="scale"),
        entry(EDIT, {"f:spec": {"f:strategy": {"f:type": {}}}}),
    )
    body = workload(*hands, replicas=1)
    assert "1 replica is asked for" in said(body)
    assert altered(body) == ""


def test_replicas__that_nobody_set_yet__are_none() -> None:
    body = workload(replicas=1)
    body["metadata"]["generation"] = 1
    assert said(body) == ""


def test_replicas__scaled_by_somebody_of_whom_no_note_was_taken__are_drift() -> None:
    body = workload(replicas=1)
    body["metadata"]["generation"] = 3
    assert said(body) == f"Changed by hand: 1 replica is asked for instead of 2 (by {SOMEBODY})."


def test_drift__of_several_nodes__names_the_container() -> None:
    spec = spec_of(accelerators=Accelerators(8, "nvidia.com/gpu"))
    objects = made(spec, profile_of(accelerators_per_node=4))
    body = copy.deepcopy(of_kind(objects, "LeaderWorkerSet"))
    leader = body["spec"]["leaderWorkerTemplate"]["leaderTemplate"]["spec"]["containers"][0]
    leader["image"] = OTHER
    found = drift_of(body, workload_in(objects.anchor["data"]), replicas=1, autoscaled=False)
    assert f"the image of engine is {OTHER}, launched was registry.example/vllm@{DIGEST}" in found.sentence


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body["metadata"].update(managedFields="x"),
        lambda body: body["metadata"].update(managedFields=[None, {"fieldsV1": 7}, {"manager": []}]),
        lambda body: body["metadata"].update(managedFields=[entry(EDIT, {"f:spec": {"k:{": {"f:": {}}}})]),
        lambda body: body.update(spec=None),
        lambda body: body["spec"].update(template=[]),
        lambda body: body["spec"]["template"]["spec"].update(containers=[None, 7]),
        lambda body: body["spec"].update(replicas="many"),
    ],
)
def test_drift__odd_object__is_told_without_an_error(spoil: Callable[[dict[str, Any]], None]) -> None:
    body = workload()
    spoil(body)
    assert said(body) == "" or said(body).startswith("Changed by hand: ")


@pytest.mark.parametrize("text", ["", "[" * 100_000, "null", "{"])
def test_kept_workload__spoilt__is_none(text: str) -> None:
    assert workload_in({"workload.json": text}) is None
