"""Speaks to an API server: a thin layer over the official client, with time-outs on every call and no retries.

Which kinds there are is a table, so nothing is discovered: the client's own discovery would keep what it found in a
file of the machine's folder for temporary files, under a name that anybody can guess.

Server-side apply has no compare-and-set of its own: a worker that was overtaken, of the same field manager, would put
the old state back. So every apply to an object that was read carries the `resourceVersion` that was read (Stale when
another one is there now), and an object that is as it should be is not written at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kubernetes import client as official
from kubernetes.client import rest
from kubernetes.dynamic.resource import Resource
from kubernetes.watch.watch import iter_resp_lines

from controlplane.kernel.errors import HeadgateError, InvalidInput, Rejected
from controlplane.kernel.foreign import parsed
from rollouts.adapters.clusters.kubernetes.errors import (
    Call,
    Expired,
    Missing,
    Transient,
    refusal,
    said_in,
    silence,
)
from rollouts.adapters.clusters.kubernetes.link import Link

MANAGER = "headgate"
SCALER = "headgate-scaler"  # owns the number of replicas, and nothing else
CONNECT_SECONDS, READ_SECONDS = 3.05, 20.0
WATCH_SECONDS = 60  # the server ends a watch after so long; silence for a quarter longer is a dead connection
WATCH_READ_SECONDS = 75.0
MOST_BYTES = 100_000_000  # of an answer: a list of thousands of pods
PAGE = 500  # objects in a part of a list
MOST_PAGES = 2_000  # of a list; whoever gives more never ends
APPLY = "application/apply-patch+yaml"  # JSON is YAML
MERGE = "application/merge-patch+json"
TRANSPORT_ERRORS = (OSError, rest.urllib3.exceptions.HTTPError)


@dataclass(frozen=True, slots=True)
class ObjectKind:
    """A kind of objects, and how its address is made."""

    api_version: str
    name: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str, name: str = "", part: str = "") -> str:
        group, _, version = self.api_version.rpartition("/")
        resource = Resource(
            prefix="apis" if group else "api",
            group=group,
            api_version=version,
            kind=self.name,
            name=self.plural,
            namespaced=self.namespaced,
        )
        found = str(resource.path(name=name or None, namespace=namespace or None))
        return f"{found}/{part}" if part else found


CONFIG_MAP = ObjectKind("v1", "ConfigMap", "configmaps")
SECRET = ObjectKind("v1", "Secret", "secrets")
SERVICE = ObjectKind("v1", "Service", "services")
POD = ObjectKind("v1", "Pod", "pods")
EVENT = ObjectKind("v1", "Event", "events")
NAMESPACE = ObjectKind("v1", "Namespace", "namespaces", namespaced=False)
POD_ANYWHERE = ObjectKind("v1", "Pod", "pods", namespaced=False)  # those of all namespaces
NODE = ObjectKind("v1", "Node", "nodes", namespaced=False)
RESOURCE_QUOTA = ObjectKind("v1", "ResourceQuota", "resourcequotas")
LIMIT_RANGE = ObjectKind("v1", "LimitRange", "limitranges")
DEPLOYMENTS = ObjectKind("apps/v1", "Deployment", "deployments")
JOBS = ObjectKind("batch/v1", "Job", "jobs")
GROUPS = ObjectKind("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet", "leaderworkersets")
GATEWAY = ObjectKind("gateway.networking.k8s.io/v1", "Gateway", "gateways")
OBJECT_KINDS: Mapping[str, ObjectKind] = {
    kind.name: kind
    for kind in (
        CONFIG_MAP, SECRET, SERVICE, POD, EVENT, DEPLOYMENTS, JOBS, GROUPS,
        ObjectKind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
        ObjectKind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
        ObjectKind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
        ObjectKind("keda.sh/v1alpha1", "ScaledObject", "scaledobjects"),
        ObjectKind("monitoring.coreos.com/v1", "PodMonitor", "podmonitors"),
        ObjectKind("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes"),
    )
}  # fmt: skip


class KubernetesClient:
    """One API server, and one namespace of it. Safe to call from several threads.

    connect, state, steady
                as `Link` has them
    read_seconds for how long the server may be silent within an answer
    cluster_uid UID of the cluster's namespace kube-system as it is remembered; empty: any cluster will do

    Every call raises an error of `errors`; none is tried again here.
    """

    def __init__(
        self,
        connect: Callable[[], official.ApiClient],
        namespace: str,
        *,
        cluster_uid: str = "",
        read_seconds: float = READ_SECONDS,
        state: Callable[[], str] = lambda: "",
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read_seconds = read_seconds
        self.namespace = namespace
        self._expected_uid = cluster_uid
        self._link = Link(connect, state, steady=steady)

    # --- reading ------------------------------------------------------------------------------------------------

    def cluster_uid(self) -> str:
        """What tells this cluster from any other. Raises Rejected when it is not the one that is remembered."""
        link, found_uid = self._link.reached(), self._link.uid
        if not found_uid:
            found = self._json("get", NAMESPACE, "kube-system", checked=False)
            found_uid = str(found["metadata"]["uid"])
            self._link.note_uid(link, found_uid)
        if self._expected_uid and found_uid != self._expected_uid:
            self._link.note_uid(link, "")  # it is asked again, for the address may lead elsewhere by then
            self._link.look_again()
            raise Rejected(
                f"Another cluster answers: it is {found_uid}, and {self._expected_uid} is remembered.",
                fix="Mend the address in the cluster's secret, or write down another cluster.",
                code="another-cluster",
            )
        return found_uid

    def get(self, kind: ObjectKind, name: str) -> dict[str, Any] | None:
        """The object; None when there is none."""
        try:
            return self._json("get", kind, name)
        except Missing:
            return None

    def pages(
        self, kind: ObjectKind, selector: str = "", *, fields: str = ""
    ) -> Iterator[tuple[list[dict[str, Any]], str]]:
        """All objects with these labels, a part at a time, and the version of the list: for lists that need not be kept
        whole. `fields`: further conditions, such as `status.phase!=Failed`."""
        call = Call("list", kind.name, namespace=self.namespace if kind.namespaced else "")
        # Within a list, objects do not say what they are.
        own = {"apiVersion": kind.api_version, "kind": kind.name}
        more = ""
        for _ in range(MOST_PAGES):
            page = self._json(
                "get",
                kind,
                label_selector=selector or None,
                field_selector=fields or None,
                limit=PAGE,
                _continue=more or None,
            )
            objects, version = page.get("items") or [], page["metadata"].get("resourceVersion")
            more = page["metadata"].get("continue", "")
            whole = isinstance(objects, list) and all(isinstance(one, dict) for one in objects)
            if not whole or not version:
                raise silence(call, ValueError("what came back is no list of objects"))
            yield [{**own, **one} for one in objects], str(version)
            if not more:
                return
        raise silence(call, ValueError(f"the list has no end after {MOST_PAGES:,} parts"))

    def list(self, kind: ObjectKind, selector: str = "") -> tuple[list[dict[str, Any]], str]:
        """All objects with these labels, and the version of the list, from which a watch goes on."""
        found: list[dict[str, Any]] = []
        version = ""
        for objects, version in self.pages(kind, selector):  # noqa: B007 - the last one's is that of the list
            found += objects
        return found, version

    def watch(self, kind: ObjectKind, selector: str, version: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """What happens to these objects after this version: (type, object), until the server ends it after a minute.

        Types are ADDED, MODIFIED, DELETED and BOOKMARK; the object of a bookmark has a version and nothing else. The
        first one is a bookmark of this version: the server answers, though nothing happens. Raises Expired when it
        knows nothing of the version, or says what is no event: list again.
        """
        call = Call("watch", kind.name, namespace=self.namespace)
        answer = self._raw(
            "get",
            kind.path(self.namespace),
            call,
            read_seconds=WATCH_READ_SECONDS,
            watch="true",
            label_selector=selector or None,
            resource_version=version,
            timeout_seconds=WATCH_SECONDS,
            allow_watch_bookmarks="true",
        )
        try:
            yield "BOOKMARK", {"metadata": {"resourceVersion": version}}
            for line in iter_resp_lines(answer):
                if not line:
                    continue
                event = parsed(line, "The cluster's watch")
                if event["type"] == "ERROR":
                    raise said_in(event["object"], call)
                yield str(event["type"]), event["object"]
        except TRANSPORT_ERRORS as error:
            raise self._silence(call, error) from None
        except (InvalidInput, KeyError, TypeError) as error:
            # Asked again from there it would say the same again.
            raise Expired(
                f"What came back from the {call} is odd: {error}", fix="It is listed again."
            ) from None
        finally:
            answer.close()
            answer.release_conn()

    def log(self, pod: str, container: str, *, lines: int, previous: bool = False) -> str:
        """The end of a container's log; of the run before this one where `previous`. Empty when there is none."""
        call = Call("read of the log", POD.name, pod, self.namespace)
        query = [("container", container), ("tailLines", str(lines)), ("limitBytes", "1000000")]
        query += [("previous", "true")] if previous else []
        try:
            answer = self._raw("get", POD.path(self.namespace, pod, "log"), call, query_params=query)
            return self._body(answer, call).decode(errors="replace")
        except HeadgateError as error:
            if isinstance(error, Rejected) and error.code in ("terminal", "no-such-object"):
                return ""  # the container did not begin yet, or has no run before this one
            raise

    # --- writing ------------------------------------------------------------------------------------------------

    def apply(
        self,
        body: Mapping[str, Any],
        seen: Mapping[str, Any] | None,
        *,
        force: bool = False,
        takes_away: bool = False,
    ) -> dict[str, Any]:
        """The object as it is after it was made so; nothing is written where it is so already.

        seen   the object as it was read; None: there was none
        force  take fields over from whoever owns them
        takes_away
               something that we set before is not in it any more: write it, though all that is in it is there already

        Raises Stale when it changed meanwhile, Drift when another manager owns a field.
        """
        if seen is not None and not takes_away and holds(seen, body):
            return dict(seen)
        kind, name = OBJECT_KINDS[body["kind"]], body["metadata"]["name"]
        wanted = {**body, "metadata": dict(body["metadata"])}
        if seen is not None:
            wanted["metadata"]["resourceVersion"] = seen["metadata"]["resourceVersion"]
        return self._json(
            "patch",
            kind,
            name,
            body=wanted,
            content_type=APPLY,
            field_manager=MANAGER,
            force_conflicts="true" if force else "false",
        )

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The object that was made. Raises Stale when there is one of this name already."""
        kind = OBJECT_KINDS[body["kind"]]
        return self._json("post", kind, body=body, field_manager=MANAGER)

    def try_to_create(self, body: Mapping[str, Any]) -> None:
        """Raises what `create` would raise. Nothing is made."""
        kind = OBJECT_KINDS[body["kind"]]
        self._json("post", kind, body=body, field_manager=MANAGER, dry_run="All")

    def replace(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Puts the whole object, with the version that was read, in the place of the one that is there."""
        return self._json(
            "put", OBJECT_KINDS[body["kind"]], body["metadata"]["name"], body=body, field_manager=MANAGER
        )

    def merge(
        self, kind: ObjectKind, name: str, change: Mapping[str, Any], *, version: str
    ) -> dict[str, Any]:
        """Changes these fields and no other, of the object as it was read with this version. Raises Stale when it
        changed meanwhile."""
        body = {**change, "metadata": {"resourceVersion": version}}
        return self._json("patch", kind, name, body=body, content_type=MERGE, field_manager=MANAGER)

    def scale(self, kind: ObjectKind, name: str, replicas: int) -> None:
        """Sets the number of replicas, through the subresource that owns nothing else."""
        call = Call("scale", kind.name, name, self.namespace)
        answer = self._raw(
            "patch",
            kind.path(self.namespace, name, "scale"),
            call,
            body={"spec": {"replicas": replicas}},
            content_type=MERGE,
            field_manager=SCALER,
        )
        self._body(answer, call)

    def delete(self, kind: ObjectKind, name: str, uid: str, *, version: str = "") -> bool:
        """Deletes this very object, and what it owns first. False: there is none. Raises Stale when another one has
        this name by now, or when it has another version than the one that is given."""
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Foreground",
            "preconditions": {"uid": uid, **({"resourceVersion": version} if version else {})},
        }
        try:
            self._json("delete", kind, name, body=body)
        except Missing:
            return False
        return True

    # --- within -------------------------------------------------------------------------------------------------

    def _json(
        self, method: str, kind: ObjectKind, name: str = "", *, checked: bool = True, **options: Any
    ) -> dict[str, Any]:
        verb = {"post": "create", "put": "update"}.get(method, method if name else "list")
        namespace = self.namespace if kind.namespaced else ""
        call = Call(verb, kind.name, name, namespace)
        answer = self._raw(method, kind.path(namespace, name), call, checked=checked, **options)
        try:
            found = parsed(self._body(answer, call))
        except InvalidInput as error:
            raise self._silence(call, error) from None
        if not isinstance(found, dict) or not isinstance(found.get("metadata"), dict):
            raise self._silence(call, ValueError("no object came back"))
        return found

    def _raw(
        self,
        method: str,
        path: str,
        call: Call,
        *,
        checked: bool = True,
        read_seconds: float | None = None,
        **options: Any,
    ) -> Any:
        if checked:
            self.cluster_uid()
        dynamic = self._link.reached()
        try:
            return dynamic.request(
                method,
                path,
                serialize=False,
                _request_timeout=(CONNECT_SECONDS, read_seconds or self._read_seconds),
                header_params={},
                query_params=options.pop("query_params", []),
                **options,
            )
        except official.ApiException as error:
            if not error.status:  # no certificate that is known, for example
                raise self._silence(call, ConnectionError(error.reason)) from None
            if error.status == 401:
                self._link.forget(dynamic)
            elif (
                error.status in (403, 404) or error.status >= 500
            ):  # it may be another server, or not ours any more
                self._link.look_again()
            body = error.body if isinstance(error.body, bytes) else str(error.body or "").encode()
            raise refusal(call, error.status, body) from None
        except TRANSPORT_ERRORS as error:
            raise self._silence(call, error) from None

    def _body(self, answer: Any, call: Call) -> bytes:
        found = bytearray()
        try:
            for chunk in answer.stream(65_536, decode_content=True):
                found += chunk
                if len(found) > MOST_BYTES:
                    answer.close()
                    raise silence(call, ValueError(f"more than {MOST_BYTES:,} bytes came back"))
        except TRANSPORT_ERRORS as error:
            answer.close()
            raise self._silence(call, error) from None
        finally:
            answer.release_conn()
        return bytes(found)

    def _silence(self, call: Call, error: Exception) -> Transient:
        """The error for a server that did not answer: at another address, or for another user, the next call may be
        answered."""
        self._link.look_again()
        return silence(call, error)


def holds(seen: Any, wanted: Any) -> bool:
    """Whether all that is wanted is there; what the API server or others added beside it does not count, and what is
    empty may be left out.

    Lists are compared entry by entry: one that is longer or in another order is another one.
    """
    if isinstance(wanted, Mapping):
        return isinstance(seen, Mapping) and all(
            holds(seen[name], value) if name in seen else value in ({}, [], "")
            for name, value in wanted.items()
        )
    if isinstance(wanted, list | tuple):
        return (
            isinstance(seen, list)
            and len(seen) == len(wanted)
            and all(holds(one, other) for one, other in zip(seen, wanted, strict=True))
        )
    return type(seen) is type(wanted) and bool(seen == wanted)
