from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from registry.domain.manifest import Manifest, ManifestEntry
from rollouts.adapters.clusters.kubernetes.filling.fill_volume import DIFFERS, REFUSED
from rollouts.adapters.clusters.kubernetes.filling.objects import (
    FILL_VOLUME,
    FillObjects,
    HeadgateDoor,
    fill_name,
    fill_objects_of,
    fill_seconds,
)
from rollouts.adapters.clusters.kubernetes.profile import ClusterProfile
from tests.rollouts.adapters.clusters.kubernetes.profiles import FILLED, IMAGE, profile_of
from tests.rollouts.adapters.clusters.kubernetes.specs import MANIFEST, made, of_kind, spec_of

URL = "https://headgate.example"
PASS = "the pass of sentinel"
OTHER_IMAGE = f"registry.example/other@sha256:{'b' * 64}"


def filling(
    profile: ClusterProfile | None = None, *, url: str = URL, token: str = PASS, **spec: Any
) -> FillObjects:
    door = HeadgateDoor(url, lambda manifest, seconds: "unused")
    return fill_objects_of(
        spec_of(**spec), profile or profile_of(weights=FILLED), "8d1f2c", door, attempt=0, token=token
    )


def pod_of_job(objects: FillObjects) -> Any:
    return objects.job["spec"]["template"]["spec"]


def test_job__its_pass__stands_in_its_secret_and_nowhere_else() -> None:
    objects = filling()
    assert base64.b64decode(objects.secret["data"]["pass"]).decode() == PASS
    assert "sentinel" not in repr((objects.job, objects.network, objects.secret["metadata"]))
    (volume,) = [one for one in pod_of_job(objects)["volumes"] if one["name"] == "pass"]
    assert volume["secret"] == {"secretName": objects.secret["metadata"]["name"], "defaultMode": 0o440}


def test_job__fetches_the_folder_of_the_manifest_from_headgate() -> None:
    (container,) = pod_of_job(filling())["containers"]
    folder = MANIFEST.folder_name
    assert container["image"] == IMAGE
    assert container["command"] == [
        "python3", "-c", FILL_VOLUME.replace("$", "$$"), f"{URL}/files/{folder}", "/models", folder,
        "/headgate/manifest.json", "/pass/pass", "/dev/termination-log",
    ]  # fmt: skip


def test_job__pod__is_restricted_and_knows_no_service_account() -> None:
    pod = pod_of_job(filling())
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "nvidia.com/gpu" not in repr(container["resources"])


def test_job__only_its_own_mount_can_be_written() -> None:
    (container,) = pod_of_job(filling())["containers"]
    writable = [one["name"] for one in container["volumeMounts"] if not one.get("readOnly")]
    assert writable == ["models"]
    engine = of_kind(made(profile=profile_of(weights=FILLED)), "Deployment")["spec"]["template"]["spec"]
    (model,) = [one for one in engine["containers"][0]["volumeMounts"] if one["name"] == "model"]
    assert (model["readOnly"], model["subPath"]) == (True, MANIFEST.folder_name)


def test_job__bounds__grow_with_the_files() -> None:
    spec = filling().job["spec"]
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (6, 1_800)
    assert spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [DIFFERS, REFUSED]
    large = Manifest.of([ManifestEntry("model.safetensors", 140 * 10**9, "cc" * 32)])
    assert fill_seconds(large) == 1_800 + 14_000


def test_job__pods__are_found_by_no_selector_of_the_variant() -> None:
    objects, variant = filling(), made(profile=profile_of(weights=FILLED))
    labels = objects.job["spec"]["template"]["metadata"]["labels"]
    selectors = [
        of_kind(variant, "Service")["spec"]["selector"],
        of_kind(variant, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        of_kind(variant, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        of_kind(variant, "Deployment")["spec"]["selector"]["matchLabels"],
    ]
    assert not any(selector.items() <= labels.items() for selector in selectors)
    assert objects.network["spec"]["podSelector"]["matchLabels"].items() <= labels.items()


def test_job__image_of_the_spec__is_the_one_that_the_node_will_need_anyway() -> None:
    from rollouts.domain.images import Image

    (container,) = pod_of_job(filling(image=Image.parse(OTHER_IMAGE, field="image")))["containers"]
    assert container["image"] == OTHER_IMAGE


def test_job__profile__says_where_it_may_run() -> None:
    profile = profile_of(
        weights=FILLED,
        node_labels={"pool": "gpu"},
        tolerations=[{"key": "nvidia.com/gpu"}],
        pull_secrets=["login"],
        priority_class="llm-serving",
        queue="team-a",
        labels={"cost-centre": "4711"},
    )
    objects = filling(profile)
    pod = pod_of_job(objects)
    assert pod["nodeSelector"] == {"pool": "gpu"}
    assert pod["tolerations"][0] == {"key": "nvidia.com/gpu", "operator": "Exists"}
    assert pod["imagePullSecrets"] == [{"name": "login"}]
    assert "priorityClassName" not in pod  # nobody is put aside for it
    labels = objects.job["metadata"]["labels"]
    assert (labels["kueue.x-k8s.io/queue-name"], labels["cost-centre"]) == ("team-a", "4711")


@pytest.mark.parametrize(
    ("url", "egress", "port", "to"),
    [
        ("https://headgate.example", [], 443, None),
        ("http://headgate.example:8500", [], 8500, None),
        ("http://10.0.0.7", [], 80, ["10.0.0.7/32"]),
        ("https://[fd00::7]:8443", [], 8443, ["fd00::7/128"]),
        ("https://headgate.example", ["10.0.0.0/8", "fd00::/8"], 443, ["10.0.0.0/8", "fd00::/8"]),
    ],
)
def test_network__job__reaches_names_and_headgate(
    url: str, egress: list[str], port: int, to: list[str] | None
) -> None:
    profile = profile_of(weights={**FILLED, "egress": egress})
    spec = filling(profile, url=url).network["spec"]
    dns, headgate = spec["egress"]
    assert (spec["policyTypes"], spec["ingress"]) == (["Ingress", "Egress"], [])
    assert {one["port"] for one in dns["ports"]} == {53}
    assert headgate["ports"] == [{"protocol": "TCP", "port": port}]
    found = headgate.get("to")
    assert (found if found is None else [one["ipBlock"]["cidr"] for one in found]) == to


def test_network__engine__reaches_nothing_of_what_its_job_does() -> None:
    profile = profile_of(weights={**FILLED, "egress": ["10.0.0.0/8"]})
    assert "10.0.0.0/8" not in json.dumps(of_kind(made(profile=profile), "NetworkPolicy"))


def test_fill_name__every_launch__has_another_one_that_no_variant_has() -> None:
    variant = spec_of().variant
    names = {fill_name(variant, attempt) for attempt in range(20)}
    assert len(names) == 20
    assert all(len(name) <= 52 and name != variant for name in names)


def test_objects__same_launch__are_the_same_byte_for_byte() -> None:
    assert filling().job == filling(token="another").job
    one, other = filling().secret, filling(token="another").secret
    assert one["metadata"] == other["metadata"]
