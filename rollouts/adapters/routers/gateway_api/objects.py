"""The HTTPRoute of an endpoint, as plain data. Pure: the same route gives the same document.

An endpoint has a host name of its own (`ENDPOINT.DOMAIN`), and its rules name every call that users may make. Rules:

1. one a variant: an inference with the header `x-headgate-variant: NAME`, or the model list with it, goes to that
   variant
2. the split: inferences go to the backends by their weights in basis points. Each reference has a filter of its own
   that tells who was drawn; Envoy Gateway then also counts each backend by itself
3. the other calls, and the model list, go to the fallback, and their answers name no variant: an engine that sends
   the header by itself must not be taken for the answer to an inference

Gateway API takes a rule with more matching headers first, whatever the order. The forced variants stand first all the
same, for whoever reads the route.

A request with the header of a variant that the route does not name is answered by the split: the Gateway API has no
rule that answers 404.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.kernel.digests import canonical_json, digest_of
from controlplane.kernel.errors import InvalidInput
from rollouts.adapters.routers.checks import check_route
from rollouts.adapters.routers.gateway_api.references import (
    DIGEST,
    ENDPOINT,
    INSTALLATION,
    MANAGED_BY,
    REFERENCE_KINDS,
    REVISION,
    SINCE,
    TOKEN,
    VARIANTS,
    BackendReference,
    reference_of,
    route_name,
)
from rollouts.ports import FORCED_VARIANT_HEADER, FULL_SHARE_BP, Backend, Route

API_VERSION = "gateway.networking.k8s.io/v1"
GATEWAY_GROUP = "gateway.networking.k8s.io"
MODEL_LIST = "/v1/models"
# What the Gateway API's own schema allows.
MOST_RULES, MOST_BACKENDS, MOST_MATCHES_OF_A_RULE, MOST_MATCHES = 16, 16, 64, 128


@dataclass(frozen=True, slots=True)
class GatewayParent:
    """A Gateway that routes are attached to. An empty `section` is all of its listeners; an empty `namespace` is the
    route's own."""

    name: str
    namespace: str = ""
    section: str = ""

    def document(self) -> dict[str, Any]:
        found = {"group": GATEWAY_GROUP, "kind": "Gateway", "name": self.name}
        if self.namespace:
            found["namespace"] = self.namespace
        return {**found, "sectionName": self.section} if self.section else found


@dataclass(frozen=True, slots=True)
class GatewayPlace:
    """Where routes are, and how they are written.

    namespace     of the routes
    parents       the Gateways that serve them; a route is in force when all of them have it
    domain        endpoints are served under ENDPOINT.DOMAIN
    installation  whose routes these are, as a label
    port          of a Service whose backend names none
    timeout       of a whole request, as the Gateway API writes it ("600s")
    keeps_zero    whether a variant with a share of 0 stays in the split with weight 0. False where the gateway sends
                  requests to such a reference: it is then left out
    forced_suffix behind a Service's name where forced requests go to a second Service of the same pods, because the
                  gateway counts by Service and could not tell them from drawn ones; empty: they go to the same one
    """

    namespace: str
    parents: tuple[GatewayParent, ...]
    domain: str
    installation: str
    port: int = 8000
    timeout: str = "600s"
    keeps_zero: bool = True
    forced_suffix: str = ""

    def host(self, endpoint: str) -> str:
        return f"{route_name(endpoint)}.{self.domain}"


@dataclass(frozen=True, slots=True)
class RouteMirror:
    """A part of the inferences is sent to this backend as well; its answers are thrown away."""

    backend: Backend
    numerator: int
    denominator: int = FULL_SHARE_BP


def spec_of(route: Route, place: GatewayPlace, mirror: RouteMirror | None = None) -> dict[str, Any]:
    """The spec of the endpoint's HTTPRoute.

    Raises InvalidInput with the field (`route.backends` ...) for what is no route, and for more variants or calls than
    one HTTPRoute can hold.
    """
    check_route(route, kinds=tuple(REFERENCE_KINDS))
    backends = sorted(route.backends, key=lambda one: one.variant)
    references = _references(backends, place)
    rules = [_forced(route, variant, reference, place) for variant, reference in references.items()]
    rules.append(_split(route, references, place, mirror))
    rules.append(_other(route, references[route.fallback], place))
    _check_size(route, rules)
    return {
        "parentRefs": [parent.document() for parent in place.parents],
        "hostnames": [place.host(route.endpoint)],
        "rules": rules,
    }


def document_of(
    route: Route,
    place: GatewayPlace,
    *,
    revision: int,
    token: int,
    since: float,
    mirror: RouteMirror | None = None,
) -> dict[str, Any]:
    """The HTTPRoute as it is written; `references` says what its labels and annotations mean. Raises as `spec_of`."""
    spec = spec_of(route, place, mirror)
    return {
        "apiVersion": API_VERSION,
        "kind": "HTTPRoute",
        "metadata": {
            "name": route_name(route.endpoint),
            "namespace": place.namespace,
            "labels": {MANAGED_BY: "headgate", INSTALLATION: place.installation},
            "annotations": {
                ENDPOINT: route.endpoint,
                REVISION: str(revision),
                TOKEN: str(token),
                DIGEST: digest_of(spec),
                VARIANTS: canonical_json(variants_of(route, place)).decode(),
                SINCE: f"{since:.3f}",
            },
        },
        "spec": spec,
    }


def variants_of(route: Route, place: GatewayPlace) -> dict[str, str]:
    """Which variant each reference of the route is, by the reference's key."""
    return {reference.key: variant for variant, reference in _references(route.backends, place).items()}


def arms_order(spec: Mapping[str, Any]) -> list[list[Any]]:
    """Where each backend stands in the route: by rule, then in its order. Gateways count by that place, so where it
    changes, a counter becomes that of another variant. Weights do not matter."""
    return [
        [(reference.get("namespace", ""), reference.get("name")) for reference in rule.get("backendRefs", ())]
        for rule in spec.get("rules", ())
    ]


def _references(backends: Sequence[Backend], place: GatewayPlace) -> dict[str, BackendReference]:
    found = {
        backend.variant: reference_of(backend, namespace=place.namespace, port=place.port)
        for backend in backends
    }
    if len({reference.key for reference in found.values()}) < len(found):
        raise InvalidInput(
            "Two variants of the endpoint have the same Service.",
            field="route.backends",
            fix="A variant needs a Service of its own: its answers are told apart by it.",
        )
    return found


def _forced(route: Route, variant: str, reference: BackendReference, place: GatewayPlace) -> dict[str, Any]:
    header = {"type": "Exact", "name": FORCED_VARIANT_HEADER, "value": variant}
    calls = [*_inferences(route), _call("GET", MODEL_LIST)]
    forced = reference.document()
    return {
        "matches": [{**match, "headers": [header]} for match in calls],
        "timeouts": {"request": place.timeout},
        "backendRefs": [
            {**forced, "name": forced["name"] + place.forced_suffix, "weight": 1, "filters": [_says(variant)]}
        ],
    }


def _split(
    route: Route,
    references: Mapping[str, BackendReference],
    place: GatewayPlace,
    mirror: RouteMirror | None,
) -> dict[str, Any]:
    weights = {variant: route.shares.get(variant, 0) for variant in references}
    rule: dict[str, Any] = {
        "matches": _inferences(route),
        "timeouts": {"request": place.timeout},
        "backendRefs": [
            {**references[variant].document(), "weight": weight, "filters": [_says(variant)]}
            for variant, weight in weights.items()
            if weight or place.keeps_zero
        ],
    }
    if mirror is not None:
        rule["filters"] = [_mirror(mirror, place)]
    return rule


def _other(route: Route, fallback: BackendReference, place: GatewayPlace) -> dict[str, Any]:
    paths = [{"path": {"type": "Exact", "value": path}} for path in route.api.other]
    return {
        "matches": [_call("GET", MODEL_LIST), *paths],
        "timeouts": {"request": place.timeout},
        "filters": [_says_nothing()],
        "backendRefs": [{**fallback.document(), "weight": 1}],
    }


def _inferences(route: Route) -> list[dict[str, Any]]:
    return [_call("POST", path) for path in route.api.inference]


def _call(method: str, path: str) -> dict[str, Any]:
    return {"path": {"type": "Exact", "value": path}, "method": method}


def _says(variant: str) -> dict[str, Any]:
    header = {"name": FORCED_VARIANT_HEADER, "value": variant}
    return {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": [header]}}


def _says_nothing() -> dict[str, Any]:
    return {
        "type": "ResponseHeaderModifier",
        "responseHeaderModifier": {"remove": [FORCED_VARIANT_HEADER]},
    }


def _mirror(mirror: RouteMirror, place: GatewayPlace) -> dict[str, Any]:
    if not 0 < mirror.numerator <= mirror.denominator:
        raise InvalidInput(
            f"{mirror.numerator} of {mirror.denominator} is no part of the requests.",
            field="route.mirror",
            fix="Give a part above 0 and at most all of them.",
        )
    reference = reference_of(mirror.backend, namespace=place.namespace, port=place.port)
    fraction = {"numerator": mirror.numerator, "denominator": mirror.denominator}
    return {
        "type": "RequestMirror",
        "requestMirror": {"backendRef": reference.document(), "fraction": fraction},
    }


def _check_size(route: Route, rules: Sequence[Mapping[str, Any]]) -> None:
    """Says in our own words what the API server would refuse in its own."""
    matches = [len(rule["matches"]) for rule in rules]
    if len(rules) > MOST_RULES or len(route.backends) > MOST_BACKENDS:
        raise InvalidInput(
            f"The route of {route.endpoint} would have {len(rules)} rules for its {len(route.backends)} variants;"
            f" an HTTPRoute holds at most {MOST_RULES}.",
            field="route.backends",
            fix=f"Keep at most {MOST_RULES - 2} variants of an endpoint at a time.",
        )
    if max(matches) > MOST_MATCHES_OF_A_RULE or sum(matches) > MOST_MATCHES:
        raise InvalidInput(
            f"The route of {route.endpoint} would have {sum(matches)} matches, at most {max(matches)} in a rule;"
            f" an HTTPRoute holds at most {MOST_MATCHES} and {MOST_MATCHES_OF_A_RULE}.",
            field="route.api",
            fix="Keep fewer variants of the endpoint at a time, or declare fewer calls of its engine.",
        )
