"""The fencing token that is kept in the cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from controlplane.kernel.errors import StaleWriter, Unavailable
from rollouts.adapters.clusters.kubernetes.client import KubernetesClient
from rollouts.adapters.clusters.kubernetes.fence import Fence
from tests.rollouts.adapters.clusters.kubernetes.api_server import ScriptedServer, scripted_server, status
from tests.rollouts.adapters.clusters.kubernetes.told import MemoryTokens

ABSENT = status(404, 'configmaps "fence.chat" not found', "NotFound", name="fence.chat")
CHANGED = status(409, "the object has been modified", "Conflict")


def kept(token: str, version: str = "7") -> tuple[int, dict[str, Any]]:
    metadata = {"name": "fence.chat", "resourceVersion": version, "uid": "u"}
    return 200, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"token": token}}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as script:
        yield script


@pytest.fixture
def fence(server: ScriptedServer) -> Fence:
    return Fence(KubernetesClient(server.api_client, "team-a"), "8d1f2c", MemoryTokens())


def test_claim__first_one__is_created_so_that_only_one_can(fence: Fence, server: ScriptedServer) -> None:
    server.answers = [ABSENT, kept("5")]
    assert fence.claim("chat", 5) == 5
    assert [asked.method for asked in server.asked] == ["GET", "POST"]
    assert server.asked[1].body["data"] == {"token": "5"}


def test_claim__larger_token__is_written_over_the_version_that_was_read(
    fence: Fence, server: ScriptedServer
) -> None:
    server.answers = [kept("5", "41"), kept("9")]
    assert fence.claim("chat", 9) == 9
    assert server.asked[1].body["metadata"]["resourceVersion"] == "41"


@pytest.mark.parametrize("newest", ["9", "12"])
def test_claim__token_that_is_not_larger__writes_nothing(
    fence: Fence, server: ScriptedServer, newest: str
) -> None:
    server.answers = [kept(newest)]
    assert fence.claim("chat", 9) == int(newest)
    assert len(server.asked) == 1


def test_claim__overtaken_between_reading_and_writing__is_answered_by_the_other_one(
    fence: Fence, server: ScriptedServer
) -> None:
    server.answers = [kept("5"), CHANGED, kept("12")]
    assert fence.claim("chat", 9) == 12


def test_check__older_token__is_stale_with_the_newest_one(fence: Fence, server: ScriptedServer) -> None:
    server.answers = [kept("12")]
    with pytest.raises(StaleWriter) as caught:
        fence.check("chat", 9)
    assert caught.value.extra == {"newest": 12}


@pytest.mark.parametrize("odd", ["", "many", "-1", "9" * 40])
def test_claim__token_that_somebody_spoiled__is_written_anew(
    fence: Fence, server: ScriptedServer, odd: str
) -> None:
    server.answers = [kept(odd), kept("5")]
    assert fence.claim("chat", 5) == 5


def test_claim__changed_without_end__is_unavailable(fence: Fence, server: ScriptedServer) -> None:
    server.answers = [kept("5"), CHANGED] * 5
    with pytest.raises(Unavailable, match="again and again"):
        fence.claim("chat", 9)
