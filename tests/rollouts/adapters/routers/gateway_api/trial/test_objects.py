"""The objects of a trial: theirs alone, restricted, and taken for nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from rollouts.adapters.clusters.kubernetes.anchors import anchor_in
from rollouts.adapters.routers.gateway_api.trial.objects import (
    TRIAL,
    TrialObjects,
    trial_objects_of,
    trial_owner,
)
from tests.rollouts.adapters.clusters.kubernetes.profiles import profile_of

OWNER = "headgate.dev/installation"


def made(run: str = "a1b2", **profile: Any) -> TrialObjects:
    return trial_objects_of(profile_of(gateway_namespaces=["edge"], **profile), "here", run)


def of_kind(objects: TrialObjects, kind: str) -> list[dict[str, Any]]:
    return [one for one in objects.others if one["kind"] == kind]


def pod_of(objects: TrialObjects) -> dict[str, Any]:
    (workload,) = of_kind(objects, "Deployment")
    found: dict[str, Any] = workload["spec"]["template"]["spec"]
    return found


def test_names__of_two_trials__are_other_ones() -> None:
    first, second = ({one["metadata"]["name"] for one in made(run).others} for run in ("a1b2", "c3d4"))
    assert not first & second


def test_labels__of_all__are_those_of_no_installation() -> None:
    objects = made()
    bodies = [objects.anchor, *objects.others]
    assert {one["metadata"]["labels"][OWNER] for one in bodies} == {trial_owner("here")} == {"here.trial"}
    assert {one["metadata"]["labels"][TRIAL] for one in bodies} == {objects.name}


def test_anchor__is_no_anchor_of_a_variant() -> None:
    assert anchor_in({**made().anchor, "metadata": {**made().anchor["metadata"], "uid": "u"}}) is None


def test_services__two__lead_to_ports_of_one_pod() -> None:
    services = of_kind(made(), "Service")
    assert tuple(one["metadata"]["name"] for one in services) == made().backends
    targets = [one["spec"]["ports"][0]["targetPort"] for one in services]
    ports = {one["name"]: one["containerPort"] for one in pod_of(made())["containers"][0]["ports"]}
    assert sorted(targets) == sorted(ports)
    assert len(set(ports.values())) == 2


def test_pod__is_restricted_small_and_has_no_token_and_no_accelerator() -> None:
    pod = pod_of(made())
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert set(container["resources"]["limits"]) == {"memory"}
    assert set(container["resources"]["requests"]) == {"cpu", "memory"}


def test_pod__runs_where_engines_run_and_from_their_image() -> None:
    pod = pod_of(made(node_labels={"pool": "gpu"}))
    assert pod["nodeSelector"] == {"pool": "gpu"}
    assert pod["containers"][0]["image"] == str(profile_of().image)


def test_policy__gateways_reach_it_and_it_reaches_nobody() -> None:
    (policy,) = of_kind(made(), "NetworkPolicy")
    (ingress,) = policy["spec"]["ingress"]
    assert ingress["from"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "edge"}
    assert policy["spec"]["egress"] == []
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]


@pytest.mark.parametrize(("profile", "label"), [({}, None), ({"queue": "team"}, "team")])
def test_workload__queue_of_the_profile__is_its_own(profile: dict[str, Any], label: str | None) -> None:
    (workload,) = of_kind(made(**profile), "Deployment")
    assert workload["metadata"]["labels"].get("kueue.x-k8s.io/queue-name") == label
