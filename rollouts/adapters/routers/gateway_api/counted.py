"""What the router and whoever reads a gateway's counters tell each other: how these name the arms of an endpoint, and
for whom the gateway has endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CountedRoute:
    """How the gateway's counters name the arms of an endpoint.

    route      the HTTPRoute's name
    namespace  of the route and of its Services
    places     which variant stands at which place (rule, backend) of its split
    services   the variant of each Service
    since      from when on this has been so, in seconds since the epoch: what was counted before that may be another
               variant's
    """

    route: str
    namespace: str
    places: Mapping[tuple[int, int], str]
    services: Mapping[str, str]
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class EndpointsAnswer:
    """For whom a gateway's processes have endpoints.

    words   who lacks endpoints for whom, or why that is not known yet; "" when nobody lacks any
    seen    it is known that somebody does
    """

    words: str = ""
    seen: bool = False
