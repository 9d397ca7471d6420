"""What pods of a gateway and of an engine say of themselves, as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rollouts.adapters.routers.gateway_api.counted import CountedRoute

V1, V2 = "chat-v1-aaaa", "chat-v2-bbbb"
# The split is the first rule, and Envoy Gateway counts from 0; forced rules stand behind it.
ROUTE = CountedRoute("chat", "team-a", {(0, 0): V1, (0, 1): V2}, {V1: V1, V2: V2})
ROUTES = {"chat": ROUTE}


@dataclass
class Counted:
    """What a gateway's process has counted of one arm."""

    answered: int = 0
    failed: int = 0
    broken: int = 0
    refused: int = 0
    rate: int = 0
    left: int = 0
    running: int = 0
    slow: int = 0  # of the answers, those that took 2 s; the others took 0.02 s
    endpoints: float = 1  # that get requests
    more: Mapping[str, int] = field(default_factory=dict)  # further counters of Envoy


def envoy_gateway(arms: Mapping[str, Counted], uptime: float = 100) -> str:
    """By cluster of Envoy."""
    lines = [f"envoy_server_uptime {uptime}"]
    for cluster, one in arms.items():
        name = f'envoy_cluster_name="{cluster}"'
        codes = {"200": one.answered + one.broken, "400": one.refused, "429": one.rate, "500": one.failed}
        for code, number in codes.items():
            if number:
                lines.append(f'envoy_cluster_upstream_rq{{{name},envoy_response_code="{code}"}} {number}')
        total = sum(codes.values()) + one.left + one.running
        counters = {
            "rq_total": total,
            "rq_active": one.running,
            "rq_rx_reset": one.broken,
            "rq_tx_reset": one.left,
        }
        for counter, number in {**counters, **one.more}.items():
            lines.append(f"envoy_cluster_upstream_{counter}{{{name}}} {number}")
        lines.append(f"envoy_cluster_membership_healthy{{{name}}} {one.endpoints}")
        quick = one.answered - one.slow
        for edge, number in (("1", 0), ("25", quick), ("2500", one.answered), ("+Inf", one.answered)):
            lines.append(f'envoy_cluster_upstream_rq_time_bucket{{{name},le="{edge}"}} {number}')
        lines.append(f"envoy_cluster_upstream_rq_time_count{{{name}}} {one.answered}")
    return "\n".join(lines) + "\n"


FIRST, SECOND = (f"httproute/team-a/chat/rule/0/backend/{place}" for place in (0, 1))


def split(first: Counted, second: Counted) -> dict[str, Counted]:
    """The clusters of the split of `ROUTE`."""
    return {FIRST: first, SECOND: second}


def istio(arms: Mapping[str, Counted]) -> str:
    """By Service."""
    lines = ["envoy_server_uptime 100"]
    for service, one in arms.items():
        to = f'reporter="source",destination_service_name="{service}",destination_service_namespace="team-a"'
        for code, flags, number in (
            ("200", "-", one.answered), ("200", "UR", one.broken), ("500", "-", one.failed),
            ("400", "-", one.refused), ("429", "-", one.rate), ("0", "DC", one.left), ("200", "DC,UC", 0),
        ):  # fmt: skip
            labels = f'{to},response_code="{code}",response_flags="{flags}"'
            lines.append(f"istio_requests_total{{{labels}}} {number}")
            for edge in ("25", "2500", "+Inf"):
                timed = number - one.slow if edge == "25" and flags == "-" and code == "200" else number
                lines.append(f'istio_request_duration_milliseconds_bucket{{{labels},le="{edge}"}} {timed}')
            lines.append(f"istio_request_duration_milliseconds_count{{{labels}}} {number}")
    return "\n".join(lines) + "\n"


def containers(container: str, started: Mapping[str, float]) -> str:
    """What the kubelet says of containers: when each started, by pod."""
    return "".join(
        f'container_start_time_seconds{{container="{container}",namespace="edge",pod="{pod}"}} {at}\n'
        for pod, at in started.items()
    )


def vllm(
    variant: str, *, tokens: int, stops: int, running: int = 1, empty: int = 0, started: float = 5.0
) -> str:
    of = f'model_name="{variant}",engine="0"'
    return (
        f"vllm:num_requests_running{{{of}}} {running}\n"
        f"vllm:num_requests_waiting{{{of}}} 2\n"
        f"vllm:kv_cache_usage_perc{{{of}}} 0.25\n"
        f"vllm:generation_tokens_total{{{of}}} {tokens}\n"
        f'vllm:request_success_total{{{of},finished_reason="stop"}} {stops}\n'
        f'vllm:request_generation_tokens_bucket{{{of},le="1.0"}} {empty}\n'
        f"process_start_time_seconds {started}\n"
    )
