"""What lies in a namespace: launches that nobody knows, and servers that are recognised as ones of models."""

from __future__ import annotations

from typing import Any

import pytest

from rollouts.adapters.clusters.kubernetes.belongings import server_in
from rollouts.domain.belongings import LaunchFound
from tests.rollouts.adapters.clusters.kubernetes.memory import MemoryObjects, cluster_of
from tests.rollouts.adapters.clusters.kubernetes.specs import spec_of

SPEC = spec_of()
NAME = SPEC.variant
ANCHOR, DEPLOYMENT = ("ConfigMap", NAME), ("Deployment", NAME)
OURS = frozenset({"registry.example/vllm"})
MADE = "2026-01-01T00:00:00Z"


@pytest.fixture
def server() -> MemoryObjects:
    return MemoryObjects()


def deployment(image: str = "vllm/vllm-openai:v0.9", **container: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "llama",
            "creationTimestamp": MADE,
            "labels": {"app.kubernetes.io/managed-by": "Helm"},
        },
        "spec": {
            "replicas": 2,
            "template": {"spec": {"containers": [{"name": "x", "image": image, **container}]}},
        },
        "status": {"readyReplicas": 1},
    }


def only(found: tuple[LaunchFound, ...]) -> LaunchFound:
    (one,) = found
    return one


# --- launches ---------------------------------------------------------------------------------------------------------


def test_launches__anchor__is_told_as_it_is_marked(server: MemoryObjects) -> None:
    cluster = cluster_of(server)
    cluster.ensure(SPEC, token=1)
    cluster.mark_unknown(only(cluster.belongings().launches), 1_000.0)
    one = only(cluster.belongings().launches)
    assert (one.variant, one.endpoint, one.where) == (NAME, "chat", f"ConfigMap {NAME}")
    assert (one.unknown_since, one.by_hand) == (1_000.0, "")


def test_launches__of_another_installation__are_not_seen(server: MemoryObjects) -> None:
    cluster = cluster_of(server)
    cluster.ensure(SPEC, token=1)
    for key in (ANCHOR, DEPLOYMENT):
        server.objects[key]["metadata"]["labels"]["headgate.dev/installation"] = "of-another"
    found = cluster.belongings()
    assert (found.launches, found.servers) == ((), ())


def test_launches__workload_without_its_anchor__is_told_and_left_to_a_person(server: MemoryObjects) -> None:
    cluster = cluster_of(server)
    cluster.ensure(SPEC, token=1)
    del server.objects[ANCHOR]
    one = only(cluster.belongings().launches)
    assert (one.variant, one.where) == (NAME, f"Deployment {NAME}")
    assert one.by_hand.endswith("delete it by hand.")
    cluster.mark_unknown(one, 1_000.0)
    assert not cluster.take_away(one)
    assert DEPLOYMENT in server.objects


def test_launches__fence_of_an_endpoint__is_none(server: MemoryObjects) -> None:
    cluster = cluster_of(server)
    cluster.claim("chat", token=3)
    assert cluster.belongings().launches == ()


@pytest.mark.parametrize(
    "metadata",
    [{"annotations": "x"}, {"annotations": {"headgate.dev/variant-name": 7}}, {"annotations": ["x"]}],
)
def test_launches__odd_one__is_left_out_and_hides_no_other(
    server: MemoryObjects, metadata: dict[str, Any]
) -> None:
    cluster = cluster_of(server)
    cluster.ensure(SPEC, token=1)
    labels = server.objects[ANCHOR]["metadata"]["labels"]
    server.keep({"kind": "ConfigMap", "metadata": {"name": "odd", "labels": labels, **metadata}})
    assert only(cluster.belongings().launches).variant == NAME


def test_launches__name_that_no_database_takes__is_replaced(server: MemoryObjects) -> None:
    cluster = cluster_of(server)
    spec = spec_of(variant="chat\x00v7")
    cluster.ensure(spec, token=1)
    one = only(cluster.belongings().launches)
    assert one.variant == "chat\ufffdv7"
    assert not cluster.take_away(one)


def test_launches__cluster_without_groups__are_told(server: MemoryObjects) -> None:
    server.unknown_kinds.add("LeaderWorkerSet")
    cluster = cluster_of(server)
    cluster.ensure(SPEC, token=1)
    assert only(cluster.belongings().launches).variant == NAME


def test_launches__being_drained__end_already(server: MemoryObjects) -> None:
    cluster = cluster_of(server)
    cluster.ensure(SPEC, token=1)
    cluster.drain(NAME, "chat", token=1)
    assert only(cluster.belongings().launches).ending


def test_take_away__another_object_of_the_same_name__is_left_alone(server: MemoryObjects) -> None:
    cluster = cluster_of(server)
    cluster.ensure(SPEC, token=1)
    seen = only(cluster.belongings().launches)
    anchor = server.objects.pop(ANCHOR)
    anchor["metadata"].pop("uid")
    server.keep(anchor)
    assert not cluster.take_away(seen)
    assert "deletionTimestamp" not in server.objects[ANCHOR]["metadata"]


def test_take_away__somebody_changes_it_at_the_last_moment__is_left_alone(server: MemoryObjects) -> None:
    cluster = cluster_of(server)
    cluster.ensure(SPEC, token=1)
    seen = only(cluster.belongings().launches)
    delete = server.delete

    def overtaken(*args: Any, **options: Any) -> bool:
        server.keep(server.objects[ANCHOR])
        return delete(*args, **options)

    server.delete = overtaken  # type: ignore[method-assign]
    assert not cluster.take_away(seen)


# --- servers ----------------------------------------------------------------------------------------------------------


def test_servers__beside_ours__are_told_and_ours_are_none(server: MemoryObjects) -> None:
    cluster = cluster_of(server)
    cluster.ensure(SPEC, token=1)
    server.keep(deployment(args=["--model", "meta/llama"]))
    (one,) = cluster.belongings().servers
    assert (one.where, one.model, one.by) == ("Deployment llama", "meta/llama", "Helm")
    assert (one.image, one.ready, one.desired, one.made_at) == (
        "vllm/vllm-openai:v0.9",
        1,
        2,
        1_767_225_600.0,
    )


@pytest.mark.parametrize(
    "image",
    [
        "vllm/vllm-openai:v0.9",
        "docker.io/vllm/vllm-openai:v0.9@sha256:" + "a" * 64,
        "registry.example:5000/mirror/lmsysorg/sglang",
        "ghcr.io/ggml-org/llama.cpp:server-cuda",
        "registry.example/vllm@sha256:" + "b" * 64,
    ],
)
def test_server__image_of_an_engine__is_recognised(image: str) -> None:
    assert server_in(deployment(image), OURS) is not None


@pytest.mark.parametrize(
    ("container", "model"),
    [
        ({"command": ["vllm", "serve", "Qwen/Qwen3-8B"]}, "Qwen/Qwen3-8B"),
        ({"command": ["vllm"], "args": ["serve", "a", "--served-model-name", "b"]}, "b"),
        ({"command": ["python3", "-m", "vllm.entrypoints.openai.api_server", "--model=c"]}, "c"),
        ({"command": ["/usr/bin/llama-server"]}, ""),
        ({"command": ["vllm", "serve", "--port", "1"]}, ""),
    ],
)
def test_server__command_of_an_engine__is_recognised_with_its_model(
    container: dict[str, Any], model: str
) -> None:
    found = server_in(deployment("team/own:v1", **container), OURS)
    assert found is not None
    assert found.model == model


@pytest.mark.parametrize(
    ("image", "container"),
    [
        ("team/own:v1", {}),
        ("team/not-vllm/vllm-openai-proxy:v1", {}),
        ("evilvllm/vllm-openai:v1", {}),
        ("team/own:v1", {"args": ["serve", "vllm"]}),
        ("team/own:v1", {"command": ["sh", "-c", "vllm serve x"]}),
        ("nginx", {"ports": [{"containerPort": 8000}]}),
        ("", {"command": "vllm serve"}),
    ],
)
def test_server__anything_else__is_not_guessed(image: str, container: dict[str, Any]) -> None:
    assert server_in(deployment(image, **container), OURS) is None


def test_server__key_in_the_place_of_a_model__is_hidden() -> None:
    found = server_in(deployment(args=["--model", "https://me:sentinel-word@models.example/x"]), OURS)
    assert found is not None
    assert "sentinel-word" not in found.model


@pytest.mark.parametrize(
    "raw",
    [
        {},
        {"metadata": None, "spec": {"template": {"spec": {"containers": "x"}}}},
        {"metadata": {"name": 7}, "spec": {"template": {"spec": {"containers": [None, 7, {"image": 7}]}}}},
        {**deployment(args=[7, None, "--model"]), "status": {"readyReplicas": "many"}},
    ],
)
def test_server__odd_object__is_read_without_an_error(raw: dict[str, Any]) -> None:
    found = server_in(raw, OURS)
    assert found is None or found.model == ""


def test_servers__more_than_anybody_reads__are_the_first_fifty(server: MemoryObjects) -> None:
    for number in range(60):
        body = deployment()
        server.keep({**body, "metadata": {**body["metadata"], "name": f"llama-{number}"}})
    assert len(cluster_of(server).belongings().servers) == 50
