"""What goes to the API server, and what its answers become. The refusals are worded as a real one worded them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client as official

from controlplane.kernel.errors import Conflict, HeadgateError, Rejected, Unavailable
from rollouts.adapters.clusters.kubernetes.client import (
    DEPLOYMENTS,
    OBJECT_KINDS,
    POD,
    KubernetesClient,
    holds,
)
from rollouts.adapters.clusters.kubernetes.errors import (
    Denied,
    Drift,
    Expired,
    NamespaceEnds,
    NamespaceMissing,
    Stale,
    Terminal,
    Transient,
    UnknownKind,
)
from tests.rollouts.adapters.clusters.kubernetes.api_server import (
    NO_NAMESPACE,
    ScriptedServer,
    scripted_server,
    status,
)

BODY = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "a", "labels": {"x": "1"}},
    "spec": {"y": 2},
}
SEEN: dict[str, Any] = {
    **BODY,
    "metadata": {"name": "a", "labels": {"x": "1", "z": "2"}, "resourceVersion": "41", "uid": "u1"},
    "status": {},
}


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as script:
        yield script


@pytest.fixture
def client(server: ScriptedServer) -> KubernetesClient:
    return KubernetesClient(server.api_client, "team-a")


def changed(**spec: Any) -> dict[str, Any]:
    return {**SEEN, "spec": {**SEEN["spec"], **spec}}


# --- refusals -------------------------------------------------------------------------------------------------------

CONFLICT = status(
    409,
    'Apply failed with 1 conflict: conflict with "kubectl-edit": .spec.replicas',
    "Conflict",
    name="a",
    causes=[
        {
            "reason": "FieldManagerConflict",
            "message": 'conflict with "kubectl-edit" using apps/v1',
            "field": ".spec.replicas",
        }
    ],
)
STALE = status(
    409, 'Operation cannot be fulfilled on deployments.apps "a": the object has been modified', "Conflict"
)
SCHEMA = status(500, "failed to create typed patch object (team-a/a): .spec.y: field not declared in schema")
QUOTA = status(
    403, 'pods "a" is forbidden: exceeded quota: gpu, requested: requests.nvidia.com/gpu=2', "Forbidden"
)
VERB = status(
    403,
    'deployments.apps "a" is forbidden: User "system:serviceaccount:headgate-system:headgate" cannot patch resource '
    '"deployments" in API group "apps" in the namespace "team-a"',
    "Forbidden",
)
ENDING = status(
    403,
    "it is forbidden: unable to create new content in namespace team-a because it is being terminated",
    "Forbidden",
    causes=[{"reason": "NamespaceTerminating", "message": "namespace team-a is being terminated"}],
)
HOOK = status(403, 'admission webhook "policy.example" denied the request: no team label', "Forbidden")


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (CONFLICT, Drift, r"\.spec\.replicas belong to kubectl-edit"),
        (STALE, Stale, "has been modified"),
        (SCHEMA, Terminal, "not declared in schema"),
        (QUOTA, Transient, "exceeded quota: gpu"),
        (VERB, Denied, r"lacks the verb patch of deployments\.apps in the namespace team-a"),
        (ENDING, NamespaceEnds, "being terminated"),
        (NO_NAMESPACE, NamespaceMissing, "no namespace team-a"),
        (HOOK, Terminal, "no team label"),
        (status(400, "the body is no object"), Terminal, "no object"),
        (
            status(422, 'Deployment.apps "a" is invalid: spec.selector: field is immutable'),
            Terminal,
            "immutable",
        ),
        (status(429, "too many requests"), Transient, "too many"),
        (status(503, "the server is shutting down"), Transient, "shutting down"),
        (status(500, "etcdserver: request timed out"), Transient, "timed out"),
        (status(401, "Unauthorized"), Transient, "does not know who"),
        ((404, "404 page not found\n"), UnknownKind, "page not found"),
        ((502, "<html>bad gateway</html>"), Transient, "bad gateway"),
        ((500, ""), Transient, "HTTP 500"),
    ],
)
def test_refusal__of_an_apply__is_of_its_class_and_asked_once(
    client: KubernetesClient,
    server: ScriptedServer,
    answer: tuple[int, Any],
    kind: type[HeadgateError],
    said: str,
) -> None:
    server.answers = [answer]
    with pytest.raises(kind, match=said) as caught:
        client.apply(changed(y=3), SEEN)
    assert type(caught.value) is kind
    assert len(server.asked) == 1


def test_errors__classes__are_those_that_the_loop_knows() -> None:
    assert issubclass(Drift, Conflict)
    assert issubclass(Stale, Conflict)
    assert issubclass(Denied, Rejected)
    assert issubclass(Terminal, Rejected)
    assert issubclass(Transient, Unavailable)
    assert not issubclass(Transient, Rejected)


GONE = status(404, 'namespaces "team-a" not found', "NotFound", name="team-a", kind="namespaces")
TO_CREATE = "Create the namespace team-a, and bind Headgate's role (deploy/kubernetes/role.yaml) in it."


def test_namespace__gone__is_told_with_what_to_create(
    client: KubernetesClient, server: ScriptedServer
) -> None:
    """An object that is missing is made again; nobody makes its namespace."""
    server.answers = [GONE]
    with pytest.raises(NamespaceMissing) as caught:
        client.create(BODY)
    assert caught.value.fix == TO_CREATE


def test_namespace__being_deleted__is_told_with_what_to_create(
    client: KubernetesClient, server: ScriptedServer
) -> None:
    server.answers = [ENDING]
    with pytest.raises(Terminal) as caught:
        client.create(BODY)
    assert caught.value.fix == f"The namespace is being deleted. Once it is gone: {TO_CREATE}"


def test_denied__in_a_namespace__says_that_its_binding_may_be_gone(
    client: KubernetesClient, server: ScriptedServer
) -> None:
    """A binding goes with its namespace: to who has no other right, a namespace that is gone looks like this."""
    server.answers = [VERB]
    with pytest.raises(Denied) as caught:
        client.apply(changed(y=3), SEEN)
    assert "If the namespace team-a was made anew, or is gone" in (caught.value.fix or "")


def test_drift__fields_and_managers__are_plain_values(
    client: KubernetesClient, server: ScriptedServer
) -> None:
    server.answers = [CONFLICT]
    with pytest.raises(Drift) as caught:
        client.apply(changed(y=3), SEEN)
    assert caught.value.extra == {"fields": [".spec.replicas"], "managers": ["kubectl-edit"]}


def test_server__nobody_listens__is_transient() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        script = ScriptedServer(url=f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(Transient, match="did not answer"):
            KubernetesClient(script.api_client, "team-a").get(POD, "a")


def test_server__takes_too_long__is_transient(server: ScriptedServer) -> None:
    server.delay, server.answers = 1.0, [(200, SEEN)]
    with pytest.raises(Transient, match="timed out"):
        KubernetesClient(server.api_client, "team-a", read_seconds=0.2).get(DEPLOYMENTS, "a")


@pytest.mark.parametrize("answer", ["[]", "{}", "nothing", '{"metadata": 7}'])
def test_server__answers_with_no_object__is_transient(
    client: KubernetesClient, server: ScriptedServer, answer: str
) -> None:
    server.answers = [(200, answer)]
    with pytest.raises(Transient):
        client.get(DEPLOYMENTS, "a")


# --- reading and writing ----------------------------------------------------------------------------------------------


def test_get__absent__is_none(client: KubernetesClient, server: ScriptedServer) -> None:
    server.answers = [status(404, 'deployments.apps "a" not found', "NotFound", name="a")]
    assert client.get(DEPLOYMENTS, "a") is None


def test_list__several_pages__are_one(client: KubernetesClient, server: ScriptedServer) -> None:
    server.answers = [
        (200, {"metadata": {"resourceVersion": "7", "continue": "more"}, "items": [SEEN]}),
        (200, {"metadata": {"resourceVersion": "7"}, "items": [SEEN]}),
    ]
    items, version = client.list(DEPLOYMENTS, "headgate.dev/installation=1")
    assert (len(items), version) == (2, "7")
    assert server.asked[1].query["continue"] == "more"
    assert {asked.query["labelSelector"] for asked in server.asked} == {"headgate.dev/installation=1"}


def test_list__objects_that_do_not_say_what_they_are__are_told_apart(
    client: KubernetesClient, server: ScriptedServer
) -> None:
    bare = {"metadata": {"name": "a"}}
    server.answers = [(200, {"metadata": {"resourceVersion": "7"}, "items": [bare]})]
    assert client.list(DEPLOYMENTS)[0] == [{"apiVersion": "apps/v1", "kind": "Deployment", **bare}]


def test_apply__object_that_is_so_already__writes_nothing(
    client: KubernetesClient, server: ScriptedServer
) -> None:
    assert client.apply(BODY, SEEN) == SEEN
    assert server.asked == []


def test_apply__changed__carries_the_version_that_was_read(
    client: KubernetesClient, server: ScriptedServer
) -> None:
    """Without it, a worker that was overtaken puts the old state back, and nobody notices."""
    server.answers = [(200, SEEN)]
    client.apply({**BODY, "spec": {"y": 3}}, SEEN)
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("PATCH", "/apis/apps/v1/namespaces/team-a/deployments/a")
    assert asked.body["metadata"]["resourceVersion"] == "41"
    assert (asked.query["fieldManager"], asked.query["force"]) == ("headgate", "false")
    assert asked.content_type == "application/apply-patch+yaml"


def test_apply__something_is_taken_away__is_written_though_all_the_rest_is_there(
    client: KubernetesClient, server: ScriptedServer
) -> None:
    server.answers = [(200, SEEN)]
    client.apply(BODY, SEEN, takes_away=True)
    assert "z" not in server.asked[0].body["metadata"]["labels"]


def test_merge__changes_these_fields_of_the_version_that_was_read(
    client: KubernetesClient, server: ScriptedServer
) -> None:
    server.answers = [(200, SEEN)]
    client.merge(DEPLOYMENTS, "a", {"spec": {"y": 3}}, version="41")
    (asked,) = server.asked
    assert (asked.method, asked.content_type) == ("PATCH", "application/merge-patch+json")
    assert asked.body == {"spec": {"y": 3}, "metadata": {"resourceVersion": "41"}}
    assert asked.query["fieldManager"] == "headgate"


def test_merge__changed_meanwhile__is_stale(client: KubernetesClient, server: ScriptedServer) -> None:
    server.answers = [status(409, "the object has been modified", "Conflict")]
    with pytest.raises(Stale):
        client.merge(DEPLOYMENTS, "a", {"spec": {"y": 3}}, version="41")


def test_scale__goes_through_the_subresource_as_another_manager(
    client: KubernetesClient, server: ScriptedServer
) -> None:
    server.answers = [(200, {"metadata": {}})]
    client.scale(DEPLOYMENTS, "a", 3)
    (asked,) = server.asked
    assert asked.path.endswith("/deployments/a/scale")
    assert (asked.body, asked.query["fieldManager"]) == ({"spec": {"replicas": 3}}, "headgate-scaler")


def test_delete__names_the_very_object_and_its_dependents_first(
    client: KubernetesClient, server: ScriptedServer
) -> None:
    server.answers = [
        (200, SEEN),
        status(404, "not found", "NotFound", name="a"),
        status(409, "the UID differs"),
    ]
    assert client.delete(DEPLOYMENTS, "a", "u1")
    assert server.asked[0].body["preconditions"] == {"uid": "u1"}
    assert server.asked[0].body["propagationPolicy"] == "Foreground"
    assert not client.delete(DEPLOYMENTS, "a", "u1")
    with pytest.raises(Stale):
        client.delete(DEPLOYMENTS, "a", "u2")


def test_log__container_that_has_none__is_empty(client: KubernetesClient, server: ScriptedServer) -> None:
    server.answers = [(200, "one\ntwo\n"), status(400, 'container "engine" in pod "a" is waiting to start')]
    assert client.log("a", "engine", lines=2) == "one\ntwo\n"
    assert client.log("a", "engine", lines=2, previous=True) == ""
    assert server.asked[0].query == {"container": "engine", "tailLines": "2", "limitBytes": "1000000"}


# --- watching -------------------------------------------------------------------------------------------------------


def test_watch__events__are_given_one_by_one(client: KubernetesClient, server: ScriptedServer) -> None:
    lines = [
        {"type": "ADDED", "object": SEEN},
        {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "50"}}},
    ]
    server.answers = [(200, "".join(json.dumps(line) + "\n" for line in lines))]
    assert [kind for kind, _ in client.watch(DEPLOYMENTS, "x=1", "41")] == [
        "BOOKMARK", "ADDED", "BOOKMARK",
    ]  # fmt: skip
    query = server.asked[0].query
    assert (query["resourceVersion"], query["timeoutSeconds"], query["watch"]) == ("41", "60", "true")


@pytest.mark.parametrize(
    "answer",
    [
        status(410, "too old resource version: 41 (90)", "Expired"),
        (
            200,
            json.dumps({"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}})
            + "\n",
        ),
        status(504, "Timeout: Too large resource version: 9000, current: 41", "Timeout"),
        (
            200,
            json.dumps(
                {"type": "ERROR", "object": {"code": 504, "message": "Too large resource version: 9000"}}
            )
            + "\n",
        ),
    ],
)
def test_watch__version_that_the_server_does_not_know__has_to_be_listed_again(
    client: KubernetesClient, server: ScriptedServer, answer: tuple[int, Any]
) -> None:
    server.answers = [answer]
    with pytest.raises(Expired):
        list(client.watch(DEPLOYMENTS, "", "41"))


@pytest.mark.parametrize("line", ["nothing\n", "[]\n", '{"type": "ADDED"}\n'])
def test_watch__line_that_is_no_event__is_transient(
    client: KubernetesClient, server: ScriptedServer, line: str
) -> None:
    server.answers = [(200, line)]
    with pytest.raises(Transient):
        list(client.watch(DEPLOYMENTS, "", "41"))


def test_watch__server_answers_and_nothing_happens__is_told_at_once(
    client: KubernetesClient, server: ScriptedServer
) -> None:
    """Else a cluster that was away for a moment would be unknown until something happens in it."""
    server.answers = [(200, "")]
    assert next(client.watch(DEPLOYMENTS, "", "41")) == ("BOOKMARK", {"metadata": {"resourceVersion": "41"}})


# --- whom it speaks to ------------------------------------------------------------------------------------------------


def test_cluster__another_one_than_remembered__is_refused_before_anything_is_written(
    server: ScriptedServer,
) -> None:
    client = KubernetesClient(server.api_client, "team-a", cluster_uid="ffff")
    with pytest.raises(Rejected, match="Another cluster answers"):
        client.apply(BODY, None)
    assert server.asked == []


def test_credentials__refused__are_read_again_for_the_next_call(server: ScriptedServer) -> None:
    tokens = iter(["old", "new"])
    client = KubernetesClient(lambda: server.api_client(next(tokens)), "team-a")
    server.answers = [status(401, "Unauthorized"), (200, SEEN)]
    with pytest.raises(Transient, match="does not know who"):
        client.get(DEPLOYMENTS, "a")
    assert client.get(DEPLOYMENTS, "a") == SEEN
    assert [asked.authorization for asked in server.asked] == ["Bearer old", "Bearer new"]


class KeptKubeconfig:
    """An operator's file: a token, and where the server is."""

    def __init__(self, server: ScriptedServer, token: str, url: str = "") -> None:
        self.server, self.token, self.url = server, token, url or server.url
        self.connections = 0

    def connect(self) -> official.ApiClient:
        self.connections += 1
        found = self.server.api_client(self.token)
        found.configuration.host = self.url
        return found

    def state(self) -> str:
        return f"{self.token} {self.url}"

    def client(self, **more: Any) -> KubernetesClient:
        return KubernetesClient(self.connect, "team-a", state=self.state, **more)


@pytest.mark.parametrize(
    "answer",
    [VERB, (404, "404 page not found\n"), (502, "<html>bad gateway</html>"), (200, "<html>welcome</html>")],
    ids=["role", "no such page", "gateway", "no object"],
)
def test_kubeconfig__changed_while_calls_fail__is_read_again_for_the_next_one(
    server: ScriptedServer, answer: tuple[int, Any]
) -> None:
    kept = KeptKubeconfig(server, "old")
    client = kept.client()
    client.cluster_uid()
    kept.token = "new"
    server.answers = [answer, (200, SEEN)]
    with pytest.raises(HeadgateError):
        client.get(DEPLOYMENTS, "a")
    assert client.get(DEPLOYMENTS, "a") == SEEN
    assert [asked.authorization for asked in server.asked] == ["Bearer old", "Bearer new"]


def test_kubeconfig__address_where_nobody_listens_was_mended__is_read_again(server: ScriptedServer) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        kept = KeptKubeconfig(server, "t0", f"http://127.0.0.1:{taken.getsockname()[1]}")
        client = kept.client(steady=iter(range(0, 600, 10)).__next__)
        with pytest.raises(Transient, match="did not answer"):
            client.get(DEPLOYMENTS, "a")
        kept.url, server.answers = server.url, [(200, SEEN)]
        with pytest.raises(Transient, match="did not answer"):
            client.get(DEPLOYMENTS, "a")
    assert client.get(DEPLOYMENTS, "a") == SEEN


def test_kubeconfig__certificate_refused_until_another_authority_is_named__is_read_again(
    server: ScriptedServer,
) -> None:
    """The official client tells of it by an error without a status."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise official.ApiException(status=0, reason="SSLError: certificate verify failed")

    refusing = server.api_client()
    refusing.call_api = refuse
    kept = KeptKubeconfig(server, "t0")
    clients = iter([refusing, kept.connect()])
    client = KubernetesClient(lambda: next(clients), "team-a", state=kept.state)
    client._link.reached()
    kept.token = "new"
    server.answers = [(200, SEEN)]
    with pytest.raises(Transient, match="certificate verify failed"):
        client.get(DEPLOYMENTS, "a")
    assert client.get(DEPLOYMENTS, "a") == SEEN


def test_kubeconfig__not_changed_while_calls_fail__connects_once(server: ScriptedServer) -> None:
    kept = KeptKubeconfig(server, "t0")
    client = kept.client(steady=iter(range(0, 600, 10)).__next__)
    server.answers = [status(503, "the server is shutting down")] * 5
    for _ in range(5):
        with pytest.raises(Transient):
            client.get(DEPLOYMENTS, "a")
    assert kept.connections == 1


def test_cluster__another_one_until_its_address_is_mended__is_asked_again(server: ScriptedServer) -> None:
    with scripted_server() as other:
        other.uid = "ffff"
        kept = KeptKubeconfig(server, "t0")
        client = kept.client(cluster_uid="ffff")
        client._link.reached()
        kept.url, other.answers = other.url, [(200, SEEN)]
        with pytest.raises(Rejected, match="Another cluster answers"):
            client.get(DEPLOYMENTS, "a")
        assert client.get(DEPLOYMENTS, "a") == SEEN


def test_client__makes_no_discovery(client: KubernetesClient, server: ScriptedServer) -> None:
    server.answers = [(200, SEEN)]
    client.get(DEPLOYMENTS, "a")
    assert [asked.path for asked in server.asked] == ["/apis/apps/v1/namespaces/team-a/deployments/a"]


def test_kinds__all__have_the_address_that_kubernetes_gives_them() -> None:
    assert OBJECT_KINDS["Pod"].path("a", "b", "log") == "/api/v1/namespaces/a/pods/b/log"
    assert OBJECT_KINDS["ScaledObject"].path("a") == "/apis/keda.sh/v1alpha1/namespaces/a/scaledobjects"


@pytest.mark.parametrize(
    ("seen", "wanted", "answer"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": {"b": [1, {"c": 2, "d": 3}]}}, {"a": {"b": [1, {"c": 2}]}}, True),
        ({"a": [1, 2]}, {"a": [1]}, False),
        ({"a": [2, 1]}, {"a": [1, 2]}, False),
        ({}, {"a": []}, True),  # the API server leaves out what is empty
        ({}, {"a": False}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": "1"}, {"a": 1}, False),
        (None, {"a": 1}, False),
    ],
)
def test_holds__all_that_is_wanted__is_there(seen: Any, wanted: Any, answer: bool) -> None:
    assert holds(seen, wanted) is answer
