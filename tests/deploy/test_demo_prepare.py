"""What the demo puts into Headgate where its endpoint is not on this machine's own cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.access.roles import Role
from controlplane.audit.models import AuditEvent
from deploy.demo.prepare import fill_volume, prepare_cluster
from registry.domain.manifest import take_manifest, verify_folder
from registry.models import Version
from tests import factories

pytestmark = pytest.mark.django_db

CLUSTER = {
    "name": "lab",
    "kind": "kubernetes",
    "secret": "lab",
    "configuration": {
        "installation": "demo",
        "profile": {
            "namespace": "team-a",
            "image": f"lab.test/vllm@sha256:{'0' * 64}",
            "weights": {"kind": "claim", "claim": "models"},
            "gateway_namespaces": ["gateway-system"],
        },
        "gateways": ["gateway-system/edge"],
        "gateway_url": "http://lab.test",
        "prometheus": "http://127.0.0.1:9",
    },
}


def test_fill_volume__files_of_versions__lie_in_the_folders_that_their_manifests_name(tmp_path: Path) -> None:
    model = factories.model(versions=2)
    manifests = []
    for number in (1, 2):
        folder = tmp_path / "models" / f"v{number}"
        (folder / "inside").mkdir(parents=True)
        (folder / "inside" / "model.safetensors").write_text(f"weights {number}")
        manifests.append(take_manifest(folder))
        Version.objects.filter(model=model, number=number).update(manifest=manifests[-1].to_json())
    volume = tmp_path / "volume"
    fill_volume(volume, model=model.name, versions={"v1": 1, "v2": 2}, models=tmp_path / "models")
    for manifest in manifests:
        verify_folder(volume / manifest.folder_name, manifest)
    assert len({one.name for one in volume.iterdir()}) == 2


def test_prepare_cluster__one_that_is_written_down__is_an_administrators_audited_act() -> None:
    factories.person(Role.ADMINISTRATOR, username="ada")
    made = prepare_cluster(CLUSTER)
    assert (made.name, made.kind, made.configuration) == ("lab", "kubernetes", CLUSTER["configuration"])
    entry = AuditEvent.objects.get(action="cluster.created")
    assert entry.actor == "ada"


def test_prepare_cluster__none_is_named__is_this_machine() -> None:
    assert prepare_cluster(None).name == "local"
