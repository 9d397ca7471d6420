"""How a gateway's counters name the arms of an endpoint: the router knows it, whoever reads the counters needs it."""

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
