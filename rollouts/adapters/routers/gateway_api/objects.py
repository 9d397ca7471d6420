"""The HTTPRoute of an endpoint, as plain data. Pure: the same route gives the same document.

An endpoint has a host name of its own (`ENDPOINT.DOMAIN`), and its rules name every call that users may make. Rules:

1. the split: inferences go to the backends by their weights (see `steps`). Each reference has a filter of its own that
   tells who was drawn; Envoy Gateway then also counts each backend by itself
2. the other calls, and the model list, go to the fallback, and their answers name no variant: an engine that sends
   the header by itself must not be taken for the answer to an inference
3. one a variant: an inference with the header `x-headgate-variant: NAME`, or the model list with it, goes to that
   variant, and its answer says by which revision of the route

Gateway API takes a rule with more matching headers first, whatever the order, so the forced variants may stand last.
They do because Envoy Gateway calls what it makes of a reference by its place, rule and backend. Were a place given to
another variant, the endpoints behind the name would change a moment before the routes do: users would be sent to a
variant that nobody drew. So every place is a variant's own for as long as the route names it (`placed`). A place
that is given up is held by the fallback until another variant takes it, in a later write.

A request with the header of a variant that the route does not name is answered by the split: the Gateway API has no
rule that answers 404.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.kernel.digests import canonical_json, digest_of
from controlplane.kernel.errors import InvalidInput
from rollouts.adapters.routers.checks import check_route
from rollouts.adapters.routers.gateway_api.notes import places_note
from rollouts.adapters.routers.gateway_api.references import (
    DIGEST,
    ENDPOINT,
    INSTALLATION,
    MANAGED_BY,
    PLACES,
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
REVISION_HEADER = (
    "x-headgate-route"  # of the answer to a forced request: which spec of the route the proxy has
)
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
class RouteLayout:
    """How a route is written beyond what it says.

    places    which variant has which place of the split and among the forced rules; empty: nobody
    weights   of the split's references
    revision  counts the specs that were written of this route; answers to forced requests tell it
    """

    places: tuple[str, ...]
    weights: Mapping[str, int]
    revision: int = 0


@dataclass(frozen=True, slots=True)
class RouteMirror:
    """A part of the inferences is sent to this backend as well; its answers are thrown away."""

    backend: Backend
    numerator: int
    denominator: int = FULL_SHARE_BP


def placed(before: Sequence[str], variants: Collection[str]) -> tuple[str, ...]:
    """The places of these variants, where those of before keep theirs. One that is new takes a place that was empty
    before, else one behind all; one that is given up now only where a route holds no more.

    before   as it was noted; whatever else stands there is no place of anybody
    """
    before = before[: MOST_RULES - 2]
    kept = [
        name if name in variants and name not in before[:place] else "" for place, name in enumerate(before)
    ]
    for name in sorted(set(variants) - set(kept)):
        empty = [place for place, one in enumerate(before) if not one and not kept[place]]
        if not empty and len(kept) >= MOST_RULES - 2:
            empty = [place for place, one in enumerate(kept) if not one]
        if empty:
            kept[empty[0]] = name
        else:
            kept.append(name)
    while kept and not kept[-1]:
        kept.pop()
    return tuple(kept)


def spec_of(
    route: Route, place: GatewayPlace, mirror: RouteMirror | None = None, layout: RouteLayout | None = None
) -> dict[str, Any]:
    """The spec of the endpoint's HTTPRoute; without a layout, of one that there was no route before.

    Raises InvalidInput with the field (`route.backends` ...) for what is no route, and for more variants or calls than
    one HTTPRoute can hold.
    """
    check_route(route, kinds=tuple(REFERENCE_KINDS))
    references = _references(route.backends, place)
    layout = layout or RouteLayout(placed((), references), route.shares)
    # At an empty place stands a reference that changes nothing.
    variants = [variant or route.fallback for variant in layout.places]
    rules = [
        _split(route, references, place, layout, mirror),
        _other(route, references[route.fallback], place),
        *(_forced(route, variant, references[variant], place, layout.revision) for variant in variants),
    ]
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
    token: int,
    since: float,
    mirror: RouteMirror | None = None,
    layout: RouteLayout | None = None,
) -> dict[str, Any]:
    """The HTTPRoute as it is written; `references` says what its labels and annotations mean. Raises as `spec_of`."""
    layout = layout or RouteLayout(placed((), [one.variant for one in route.backends]), route.shares, 1)
    spec = spec_of(route, place, mirror, layout)
    return {
        "apiVersion": API_VERSION,
        "kind": "HTTPRoute",
        "metadata": {
            "name": route_name(route.endpoint),
            "namespace": place.namespace,
            "labels": {MANAGED_BY: "headgate", INSTALLATION: place.installation},
            "annotations": {
                ENDPOINT: route.endpoint,
                REVISION: str(layout.revision),
                PLACES: places_note(layout.places),
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


def _forced(
    route: Route, variant: str, reference: BackendReference, place: GatewayPlace, revision: int
) -> dict[str, Any]:
    header = {"type": "Exact", "name": FORCED_VARIANT_HEADER, "value": variant}
    says = _says(variant, {"name": REVISION_HEADER, "value": str(revision)})
    calls = [*_inferences(route), _call("GET", MODEL_LIST)]
    forced = reference.document()
    return {
        "matches": [{**match, "headers": [header]} for match in calls],
        "timeouts": {"request": place.timeout},
        "backendRefs": [
            {**forced, "name": forced["name"] + place.forced_suffix, "weight": 1, "filters": [says]}
        ],
    }


def _split(
    route: Route,
    references: Mapping[str, BackendReference],
    place: GatewayPlace,
    layout: RouteLayout,
    mirror: RouteMirror | None,
) -> dict[str, Any]:
    weights = [(name or route.fallback, layout.weights.get(name, 0)) for name in layout.places]
    rule: dict[str, Any] = {
        "matches": _inferences(route),
        "timeouts": {"request": place.timeout},
        "backendRefs": [
            {**references[variant].document(), "weight": weight, "filters": [_says(variant)]}
            for variant, weight in weights
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


def _says(variant: str, *more: dict[str, str]) -> dict[str, Any]:
    headers = [{"name": FORCED_VARIANT_HEADER, "value": variant}, *more]
    return {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"set": headers}}


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
