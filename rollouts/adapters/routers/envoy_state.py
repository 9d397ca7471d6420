"""What Envoy's router remembers between two routes, in `routes.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rollouts.adapters.backends import at_address
from rollouts.ports import OPENAI_API, Backend, EngineApi, Route


@dataclass(frozen=True, slots=True)
class RouterState:
    """What routes.json holds.

    generations  of the routes, by endpoint; 0 for one that an earlier version published
    rejected     by endpoint, the router's words when it refused the last route
    """

    routes: Mapping[str, Route] = field(default_factory=dict)
    generations: Mapping[str, int] = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)
    rejected: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        routes = {
            name: {
                "shares": dict(route.shares),
                "backends": [[b.variant, b.kind, b.name, b.address] for b in route.backends],
                "fallback": route.fallback,
                "rescuers": list(route.rescuers),
                "api": {"inference": list(route.api.inference), "other": list(route.api.other)},
            }
            for name, route in self.routes.items()
        }
        return {
            "routes": routes,
            "generations": dict(self.generations),
            "tokens": dict(self.tokens),
            "rejected": dict(self.rejected),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RouterState:
        routes = {
            name: Route(
                endpoint=name,
                shares={variant: int(share) for variant, share in route["shares"].items()},
                backends=tuple(map(_backend, route["backends"])),
                fallback=str(route["fallback"]),
                # Files of an earlier version have neither.
                rescuers=tuple(map(str, route.get("rescuers", ()))),
                api=_api(route["api"]) if "api" in route else OPENAI_API,
            )
            for name, route in data["routes"].items()
        }
        tokens = {name: int(token) for name, token in data["tokens"].items()}
        generations = {name: int(number) for name, number in data.get("generations", {}).items()}
        return cls(routes, generations, tokens, dict(data["rejected"]))


def _backend(data: Sequence[Any]) -> Backend:
    """Files of an earlier version have a variant, a host and a port."""
    if len(data) == 3:
        return at_address(str(data[0]), str(data[1]), int(data[2]))
    return Backend(*map(str, data))


def _api(data: Mapping[str, Any]) -> EngineApi:
    return EngineApi(tuple(map(str, data["inference"])), tuple(map(str, data["other"])))
