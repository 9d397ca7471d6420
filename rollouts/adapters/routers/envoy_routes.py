"""Envoy's clusters, and the shares in a route table that it dumped; envoy_config says what each cluster is for."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.foreign import Fields, whole_of
from rollouts.adapters.backends import address_of
from rollouts.ports import FULL_SHARE_BP, Backend, Route

ASSIGNED_HEADER = "x-headgate-assigned"
ASSIGNED = "assigned"
ANSWER = "answer"
FALLBACK = "fallback"
OTHER = "other"
OURS, GENERATION = "headgate", "generation"  # where the metadata of a route say which one it is
KINDS = (ASSIGNED, ANSWER, FALLBACK, OTHER)

EJECT_AFTER = 3
EJECT_SECONDS = 5
MIN_CONCURRENT_RETRIES = 256
UNHEALTHY_AFTER = 3
HEALTH_TIMEOUT = "5s"
CONCURRENT_REQUESTS = 4096
UINT32 = 2**32 - 1  # the largest weight

TYPE = "type.googleapis.com/envoy."
ANSWERED_BY = "%UPSTREAM_METADATA(llm:variant)%"
# A cluster that leads nowhere: an empty cluster file would be taken as "there are none" and stop all traffic.
_NOWHERE = "nowhere"
# Envoy's default is to use hosts that fail their health check when too many do.
_NEVER_PANIC = {"healthy_panic_threshold": {"value": 0}}


def cluster_name(kind: str, endpoint: str, variant: str) -> str:
    return f"{kind}/{endpoint}/{variant}"


def split_cluster_name(name: str) -> tuple[str, str, str]:
    """(kind, endpoint, variant); three empty strings when it is no cluster of ours."""
    parts = name.split("/")
    if len(parts) != 3 or parts[0] not in KINDS:
        return "", "", ""
    return parts[0], parts[1], parts[2]


def clusters(routes: Mapping[str, Route]) -> list[dict[str, Any]]:
    """All clusters, in the order of their names; never empty."""
    found: list[dict[str, Any]] = [
        {
            "name": _NOWHERE,
            "type": "STATIC",
            "connect_timeout": "1s",
        }
    ]
    for endpoint, route in sorted(routes.items()):
        for backend in sorted(route.backends, key=lambda b: b.variant):
            found.append(_answer(endpoint, backend))
            if backend.variant == route.fallback:
                found.append(_backend(FALLBACK, endpoint, backend))
            found.append(_assigned(endpoint, backend.variant, route))
        found.append(_other(endpoint, route))
    return found


def is_aggregate(cluster: Mapping[str, Any]) -> bool:
    """Whether it names other clusters, instead of a backend."""
    return "cluster_type" in cluster


def _backend(kind: str, endpoint: str, backend: Backend) -> dict[str, Any]:
    """A cluster of one host, whose metadata say which variant answers there."""
    name = cluster_name(kind, endpoint, backend.variant)
    address, port = address_of(backend)
    host = {
        "endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}},
        "metadata": {"filter_metadata": {"llm": {"variant": backend.variant}}},
    }
    return {
        **_cluster(name),
        "type": "STATIC" if _is_address(address) else "STRICT_DNS",
        "dns_lookup_family": "V4_PREFERRED",  # by default ::1 comes first, where engines do not listen
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [host]}]},
    }


def _answer(endpoint: str, backend: Backend) -> dict[str, Any]:
    """A variant's backend, left out while it is not healthy."""
    health = {
        "timeout": HEALTH_TIMEOUT,
        "interval": "1s",
        "no_traffic_interval": "1s",
        "unhealthy_threshold": UNHEALTHY_AFTER,
        "healthy_threshold": 1,
        "http_health_check": {"path": "/health"},
    }
    outliers = {
        # An engine's own answers are for the gates to judge, a full one's 503 too: only what nobody answered ejects.
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": EJECT_AFTER,
        "enforcing_consecutive_local_origin_failure": 100,
        "enforcing_success_rate": 0,
        "enforcing_local_origin_success_rate": 0,
        "interval": "1s",
        "base_ejection_time": f"{EJECT_SECONDS}s",
        "max_ejection_time": f"{EJECT_SECONDS}s",
        "max_ejection_percent": 100,
    }
    return {
        **_backend(ANSWER, endpoint, backend),
        "health_checks": [health],
        "outlier_detection": outliers,
        # By default Envoy's threads learn up to a second late that a host is dead or well again.
        "common_lb_config": {**_NEVER_PANIC, "update_merge_window": "0s"},
    }


def _assigned(endpoint: str, variant: str, route: Route) -> dict[str, Any]:
    """What the weighted route chooses: the variant and, behind it, who may answer for it."""
    return _first_healthy(
        cluster_name(ASSIGNED, endpoint, variant), endpoint, answerers(route, variant), route.fallback
    )


def _other(endpoint: str, route: Route) -> dict[str, Any]:
    """Takes the calls that are no inference: the fallback first, which is the stable variant."""
    name = cluster_name(OTHER, endpoint, route.fallback)
    return _first_healthy(name, endpoint, answerers(route, route.fallback), route.fallback)


def answerers(route: Route, variant: str) -> tuple[str, ...]:
    """Who answers a request that drew `variant`: the first of them that is healthy, else the fallback all the same."""
    return tuple(dict.fromkeys((variant, route.fallback, *route.rescuers)))


def _first_healthy(name: str, endpoint: str, order: Sequence[str], fallback: str) -> dict[str, Any]:
    """An aggregate: a request goes to the first member that is healthy. The fallback stands at the end without a
    health check, and before the others with one, unless no others come."""
    checked = order[:-1] if order[-1] == fallback else order
    members = [cluster_name(ANSWER, endpoint, variant) for variant in checked]
    members.append(cluster_name(FALLBACK, endpoint, fallback))
    return {
        **_cluster(name),
        "lb_policy": "CLUSTER_PROVIDED",
        "common_lb_config": _NEVER_PANIC,
        "cluster_type": {
            "name": "envoy.clusters.aggregate",
            "typed_config": {
                "@type": TYPE + "extensions.clusters.aggregate.v3.ClusterConfig",
                "clusters": members,
            },
        },
    }


def _cluster(name: str) -> dict[str, Any]:
    budget = {"budget_percent": {"value": 20.0}, "min_retry_concurrency": MIN_CONCURRENT_RETRIES}
    limits = {
        "max_connections": CONCURRENT_REQUESTS,
        "max_pending_requests": CONCURRENT_REQUESTS,
        "max_requests": CONCURRENT_REQUESTS,
        "retry_budget": budget,
    }
    return {"name": name, "connect_timeout": "1s", "circuit_breakers": {"thresholds": [limits]}}


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class SplitInForce:
    """What a route table that Envoy dumped says of one endpoint.

    named        variants that it can send a request to, those with a share of 0 too
    generation   of the route; 0 when it has none
    """

    shares: Mapping[str, int]
    named: frozenset[str]
    generation: int


def split_in_force(table: Fields, endpoint: str) -> SplitInForce | None:
    """The endpoint's split out of a route table as Envoy dumps it; None when the endpoint is not in it.

    Weights that were set by hand may have any sum (50 and 50): they are told as the shares that they are. Raises
    InvalidInput where the table is odd, but not for what another endpoint's routes hold.
    """
    for host in table.parts("virtual_hosts"):
        for route in host.parts("routes"):
            if route.has("name", endpoint) and "weighted_clusters" in route.part("route"):
                return _split_of(route)
    return None


def all_splits_in_force(table: Fields) -> dict[str, SplitInForce]:
    """The split of every endpoint in a route table; one whose route is odd is left out."""
    found: dict[str, SplitInForce] = {}
    for host in table.parts("virtual_hosts"):
        for route in host.parts("routes"):
            try:
                if "route" in route and "weighted_clusters" in route.part("route"):
                    found.setdefault(route.text("name"), _split_of(route))
            except InvalidInput:
                continue
    return found


def _split_of(route: Fields) -> SplitInForce:
    """The split of a route with weights. Raises InvalidInput where it is odd."""
    weights: dict[str, int] = {}
    for entry in route.part("route").part("weighted_clusters").parts("clusters"):
        weight = entry.whole("weight", 0, least=0, most=UINT32)
        weights[split_cluster_name(entry.text("name"))[2]] = weight
    ours = route.part("metadata").part("filter_metadata").part(OURS)
    said = ours.text(GENERATION, "0", longest=20)
    generation = whole_of(said, "The route table in force", GENERATION, least=0)
    shares = bp_of_weights({name: weight for name, weight in weights.items() if weight})
    return SplitInForce(shares, frozenset(weights), generation)


def bp_of_weights(weights: Mapping[str, int]) -> dict[str, int]:
    """Weights as shares of sum 10,000, as nearly as whole numbers can: the largest remainders go up."""
    total = sum(weights.values())
    if total in (0, FULL_SHARE_BP):
        return dict(weights)
    shares = {name: weight * FULL_SHARE_BP // total for name, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda name: weights[name] * FULL_SHARE_BP % total, reverse=True)
    for name in by_remainder[: FULL_SHARE_BP - sum(shares.values())]:
        shares[name] += 1
    return {name: share for name, share in shares.items() if share}
