from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from controlplane.access.roles import Role
from rollouts.domain.belongings import Belongings, LaunchFound, ModelServer, Orphan
from rollouts.models import Cluster, Workload
from tests import factories
from tests.controlplane.api.conftest import ClientOf
from tests.rollouts.conftest import Declare

pytestmark = pytest.mark.django_db


def test_engines__viewer__finds_every_option_with_its_help(client_of: ClientOf) -> None:
    factories.endpoint()

    (vllm,) = client_of(Role.VIEWER).get("/api/v1/clusters/here/engines").json()["engines"]

    assert (vllm["engine"], vllm["widened"]) == ("vllm", [])
    arguments = {option["name"]: option for option in vllm["arguments"]}
    length = arguments["max-model-len"]
    assert (length["kind"], length["least"]) == ("integer", 1)
    assert length["wanted"].startswith("a whole number from 1 to ")
    assert "hermes" in arguments["tool-call-parser"]["choices"]
    assert [part["name"] for part in arguments["limit-mm-per-prompt"]["parts"]] == ["image", "video", "audio"]
    assert all(option["help"].endswith(".") for option in [*vllm["arguments"], *vllm["variables"]])
    assert "OMP_NUM_THREADS" in {option["name"] for option in vllm["variables"]}
    assert "CUDA_VISIBLE_DEVICES" in vllm["passed_on"]


def test_engines__viewer__finds_what_the_cluster_can_give(client_of: ClientOf) -> None:
    factories.endpoint()

    found = client_of(Role.VIEWER).get("/api/v1/clusters/here/engines").json()

    assert found["limits"] == {"resources": ["memory_mb"], "replicas": 1, "images": [], "accelerators": []}


def test_engines__operator_widened_one__names_what(client_of: ClientOf, declare: Declare) -> None:
    factories.endpoint()
    declare(vllm={"passed_on": ["HF_TOKEN"]})

    (vllm,) = client_of(Role.VIEWER).get("/api/v1/clusters/here/engines").json()["engines"]

    assert vllm["widened"] == ["variable HF_TOKEN, passed on from the stack"]


def test_engines__unknown_cluster__is_404(client_of: ClientOf) -> None:
    assert client_of().get("/api/v1/clusters/nowhere/engines").status_code == 404


def test_engines__declarations_cannot_be_read__is_503_with_the_remedy(
    client_of: ClientOf, declare: Declare
) -> None:
    factories.endpoint()
    declare(vllm=7)

    response = client_of().get("/api/v1/clusters/here/engines")

    assert response.status_code == 503
    assert "engines.json" in json.dumps(response.json())
    assert str(settings.HEADGATE.run_dir) in response.json()["fix"]


def strand() -> None:
    """An endpoint on a cluster whose kind nobody knows."""
    made = factories.endpoint("stranded")
    made.cluster = Cluster.objects.create(name="elsewhere", kind="moonbase")
    made.save()


def test_clusters__unusable_cluster__is_listed_with_the_reason(client_of: ClientOf) -> None:
    strand()
    client = client_of()
    listed = {one["name"]: one for one in client.get("/api/v1/clusters").json()["clusters"]}
    assert listed["local"]["problem"] is None
    assert listed["local"]["endpoint_url"].endswith("/name")
    assert "no kind of clusters 'moonbase'" in listed["elsewhere"]["problem"]
    assert listed["elsewhere"]["fix"] == "Use one of: kubernetes, local."
    assert listed["elsewhere"]["endpoint_url"] == ""
    assert client.get("/api/v1/clusters/elsewhere").json() == listed["elsewhere"]
    assert client.get("/api/v1/clusters/elsewhere/engines").status_code == 503
    assert client.get("/api/v1/endpoints/stranded").status_code == 200


def test_clusters__rollout_on_an_unusable_cluster__is_refused_with_the_reason(client_of: ClientOf) -> None:
    strand()
    body = {"endpoint": "stranded", "version": 2, "plan": factories.PLAN.to_json()}
    client = client_of(Role.ENGINEER)
    dry = client.post("/api/v1/rollouts", {**body, "dry_run": True}, content_type="application/json")
    refused = [check["title"] for check in dry.json()["checks"] if check["state"] == "refused"]
    assert any("The cluster elsewhere cannot be used." in title for title in refused)
    started = client.post("/api/v1/rollouts", body, content_type="application/json")
    assert (started.status_code, started.json()["code"]) == (503, "cluster-unusable")


def test_clusters__put__makes_changes_and_refuses(client_of: ClientOf, tmp_path: Path) -> None:
    folder = tmp_path / "paris"
    folder.mkdir(mode=0o700)
    body: dict[str, Any] = {
        "kind": "local",
        "configuration": {"run_dir": str(folder), "gateway_port": 8_700, "engine_ports": "18200-18299"},
    }
    client = client_of(Role.ADMINISTRATOR)

    def put(sent: dict[str, Any]) -> Any:
        return client.put("/api/v1/clusters/paris", sent, content_type="application/json")

    assert (put(body).status_code, put(body).status_code) == (201, 200)
    assert put(body).json()["problem"] is None
    wrong = put({**body, "configuration": {"run_dir": 7}})
    assert wrong.status_code == 422
    assert "configuration.run_dir" in [one["field"] for one in wrong.json()["errors"]]
    assert put({**body, "configuration": [1]}).status_code in (400, 422)
    assert client_of(Role.RELEASE_MANAGER).put(
        "/api/v1/clusters/paris", body, content_type="application/json"
    ).status_code == 403  # fmt: skip


# --- what lies there --------------------------------------------------------------------------------------------------


def test_belongings__never_looked__is_empty(client_of: ClientOf) -> None:
    factories.endpoint()
    found = client_of(Role.VIEWER).get("/api/v1/clusters/here/belongings").json()
    assert found == {"looked_at": None, "drifts": [], "orphans": [], "servers": []}


def test_belongings__orphans_and_servers__are_told_with_their_times(client_of: ClientOf) -> None:
    factories.endpoint()
    launch = LaunchFound("chat-v9-aaaa", "chat", "ConfigMap chat-v9-aaaa", 3_600.0)
    server = ModelServer("Deployment llama", "vllm/vllm-openai:v1", "llama", "Helm", 1, 2, 60.0)
    kept = Belongings(7_200.0, (Orphan(launch, "It waits."),), (server,)).to_json()
    Cluster.objects.filter(name="here").update(belongings=kept)

    found = client_of(Role.VIEWER).get("/api/v1/clusters/here/belongings").json()

    assert found["looked_at"] == "1970-01-01T02:00:00Z"
    assert found["orphans"] == [
        {
            "where": "ConfigMap chat-v9-aaaa",
            "variant": "chat-v9-aaaa",
            "endpoint": "chat",
            "made_at": "1970-01-01T01:00:00Z",
            "unknown_since": None,
            "waits": "It waits.",
        }
    ]
    assert found["servers"] == [
        {
            "where": "Deployment llama",
            "image": "vllm/vllm-openai:v1",
            "model": "llama",
            "managed_by": "Helm",
            "ready": 1,
            "desired": 2,
            "unfit": "",
            "made_at": "1970-01-01T00:01:00Z",
        }
    ]


def test_belongings__engine_changed_by_hand__is_told_there_and_at_its_endpoint(client_of: ClientOf) -> None:
    made = factories.endpoint()
    assert made.stable is not None
    Workload.objects.filter(variant=made.stable).update(wanted=True, drift="Changed by hand: x.")
    client = client_of(Role.VIEWER)
    assert client.get("/api/v1/clusters/here/belongings").json()["drifts"] == [
        {"endpoint": "triage", "variant": made.stable.name, "drift": "Changed by hand: x."}
    ]


def test_belongings__unknown_cluster__is_404(client_of: ClientOf) -> None:
    assert client_of().get("/api/v1/clusters/nowhere/belongings").status_code == 404


def test_cluster__capabilities__are_told_with_how_they_are_known(client_of: ClientOf) -> None:
    factories.endpoint()
    found = client_of(Role.VIEWER).get("/api/v1/clusters/here").json()["capabilities"]
    known = {one["name"]: one["known_by"] for one in found}
    assert known == {
        "fallback": "declared",
        "forced-variant": "declared",
        "mirror": "missing",
        "sticky": "missing",
    }
    assert {(one["detail"], one["at"]) for one in found} == {("", None)}
