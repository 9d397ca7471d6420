"""Routes and a place for the tests of this folder."""

from __future__ import annotations

from typing import Any

from rollouts.adapters.routers.gateway_api.objects import GatewayParent, GatewayPlace
from rollouts.ports import Backend, Route

PARENT = GatewayParent("llm", "edge")
PLACE = GatewayPlace("team-a", (PARENT,), "models.example.com", "8d1f2c")
V1, V2 = "chat-v1-aaaa", "chat-v2-bbbb"


def service(variant: str, name: str = "") -> Backend:
    return Backend(variant, "service", name=name or variant)


def two(candidate_bp: int, **more: Any) -> Route:
    """The route of "chat": two variants, the second with this share."""
    shares = {V1: 10_000 - candidate_bp, V2: candidate_bp}
    return Route("chat", shares, (service(V1), service(V2)), V1, **more)


def said(
    generation: int,
    *,
    accepted: str = "True",
    resolved: str = "True",
    reason: str = "Because",
    message: str = "words of the gateway",
    parent: GatewayParent = PARENT,
    **conditions: str,
) -> dict[str, Any]:
    """What one gateway says of a route: an entry of `status.parents`."""
    kinds = {"Accepted": accepted, "ResolvedRefs": resolved, **conditions}
    return {
        "parentRef": parent.document(),
        "controllerName": "gateway.envoyproxy.io/lab",
        "conditions": [
            {"type": kind, "status": status, "observedGeneration": generation, "reason": reason, "message": message}
            for kind, status in kinds.items()
            if status
        ],
    }  # fmt: skip
