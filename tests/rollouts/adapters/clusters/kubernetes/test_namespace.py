"""Whether anything can be made in a namespace: told apart from everything else that keeps a trial from being made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from rollouts.adapters.clusters.kubernetes.client import CONFIG_MAP, POD, KubernetesClient
from rollouts.adapters.clusters.kubernetes.errors import (
    Denied,
    NamespaceEnds,
    NamespaceMissing,
    Transient,
    namespace_fix,
)
from rollouts.adapters.clusters.kubernetes.namespace import check_namespace, refused_there
from tests.rollouts.adapters.clusters.kubernetes.api_server import (
    NO_NAMESPACE,
    ScriptedServer,
    scripted_server,
    status,
)

MADE = (201, {"kind": "ConfigMap", "metadata": {"name": "headgate-x7k2p"}})
LISTED = (200, {"kind": "List", "metadata": {"resourceVersion": "7"}, "items": []})
ENDS = status(403, "it is being terminated", "Forbidden", causes=[{"reason": "NamespaceTerminating"}])


def denied(verb: str, resource: str) -> Any:
    words = f'User "h" cannot {verb} resource "{resource}" in API group "" in the namespace "team-a"'
    return status(403, f"{resource} is forbidden: {words}", "Forbidden")


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as script:
        yield script


def check(server: ScriptedServer, answer: Any) -> None:
    server.answers = [answer]
    check_namespace(KubernetesClient(server.api_client, "team-a"))


def test_check_namespace__that_is_there__is_tried_and_nothing_is_made(server: ScriptedServer) -> None:
    check(server, MADE)
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("POST", "/api/v1/namespaces/team-a/configmaps")
    assert asked.query["dryRun"] == "All"


def test_check_namespace__that_is_not_there__says_to_create_it(server: ScriptedServer) -> None:
    with pytest.raises(NamespaceMissing) as caught:
        check(server, NO_NAMESPACE)
    assert (
        caught.value.message
        == "There is no namespace team-a in the cluster (create of ConfigMaps in team-a)."
    )
    assert caught.value.fix == namespace_fix("team-a")


@pytest.mark.parametrize(
    ("answer", "error"),
    [(denied("create", "configmaps"), Denied), (ENDS, NamespaceEnds), (status(503, "busy"), Transient)],
)
def test_check_namespace__other_trouble__is_raised_as_what_it_is(
    server: ScriptedServer, answer: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        check(server, answer)


@pytest.mark.parametrize(
    "answer",
    [
        status(403, 'configmaps "x" is forbidden: exceeded quota: small, requested: count/configmaps=1'),
        status(400, "admission webhook rules.example does not support dry run"),
        status(409, "there is one already", "AlreadyExists", name="headgate-x7k2p"),
    ],
)
def test_check_namespace__trial_that_a_rule_refuses__is_there(server: ScriptedServer, answer: Any) -> None:
    check(server, answer)
    assert len(server.asked) == 1


# --- before the first use ---------------------------------------------------------------------------------------------


def refused(server: ScriptedServer, *answers: Any) -> list[str]:
    server.answers = [*answers]
    return refused_there(KubernetesClient(server.api_client, "team-a"), (CONFIG_MAP, POD))


def test_refused_there__all_is_allowed__nothing(server: ScriptedServer) -> None:
    assert refused(server, MADE, LISTED, LISTED) == []


def test_refused_there__namespace_is_not_there__is_said_though_every_list_is_empty(
    server: ScriptedServer,
) -> None:
    (said,) = refused(server, NO_NAMESPACE, LISTED, LISTED)
    assert said.endswith(namespace_fix("team-a"))


def test_refused_there__one_right_is_missing__is_named_alone(server: ScriptedServer) -> None:
    (said,) = refused(server, MADE, LISTED, denied("list", "pods"))
    assert "lacks the verb list of pods" in said
    assert "Create the namespace" not in said


def test_refused_there__no_right_at_all__may_be_that_the_namespace_is_missing(server: ScriptedServer) -> None:
    (said,) = refused(
        server, denied("create", "configmaps"), denied("list", "configmaps"), denied("list", "pods")
    )
    assert "Create the namespace team-a where it is missing, and bind the role headgate-workloads" in said
