"""An API server's HTTPRoutes and a gateway with one proxy in memory, with real compare-and-set and generations."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from controlplane.kernel.errors import Rejected, Unavailable
from rollouts.adapters.routers.gateway_api.api import RouteMoved
from rollouts.adapters.routers.gateway_api.user import ServedAnswer
from tests.rollouts.adapters.routers.gateway_api.routes import V1, V2, said


class MemoryRoutes:
    """A RouteStore. It adds defaults as the real API server does, counts generations of the spec, and refuses a write
    to another resource version than the present one.

    looks       whether a gateway looks at each route at once
    verdict     what it says then, over what `said` says
    follows     whether its proxy takes each route that it looks at, at once
    answers     variants whose engine answers
    asked       the forced requests that came, as (host, variant)
    refuse      words with which writes of another spec are refused
    down        nothing answers
    default     what the API server puts into every rule that does not have it
    asked_for   the routes that were read from the API server itself
    before_write  done once before the next write: somebody who comes between
    """

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}
        self.looks = True
        self.verdict: dict[str, Any] = {}
        self.follows = True
        self.answers = {V1, V2}
        self.asked: list[tuple[str, str]] = []
        self.proxy: dict[str, dict[str, Any]] = {}  # the rules that it has, by host
        self.refuse = ""
        self.down = False
        self.default: dict[str, Any] = {}
        self.ready = frozenset({V1, V2})
        self.writes = 0
        self.asked_for: list[str] = []
        self.before_write: Any = None
        self._versions = 100

    # --- RouteStore ---------------------------------------------------------------------

    def get(self, name: str) -> Mapping[str, Any] | None:
        self._require_up()
        self.asked_for.append(name)
        return copy.deepcopy(self.documents.get(name))

    def at_hand(self, name: str) -> Mapping[str, Any] | None:
        self._require_up()
        return self.documents.get(name)

    def list(self) -> Sequence[Mapping[str, Any]]:
        self._require_up()
        return list(self.documents.values())

    def write(self, document: Mapping[str, Any], *, resource_version: str) -> Mapping[str, Any]:
        self._require_up()
        if self.before_write is not None:
            between, self.before_write = self.before_write, None
            between()
        return self._write(document, resource_version, "headgate")

    def ready_services(self) -> frozenset[str]:
        self._require_up()
        return self.ready

    # --- others -------------------------------------------------------------------------

    def edit(self, name: str, weights: Mapping[str, int], manager: str = "kubectl-edit") -> None:
        """Somebody sets the weights of the split."""
        document = copy.deepcopy(self.documents[name])
        for reference in self.split(document)["backendRefs"]:
            reference["weight"] = weights[reference["name"]]
        self._write(document, document["metadata"]["resourceVersion"], manager)

    def look(self, name: str) -> None:
        """The gateway looks at the route now."""
        document = self.documents[name] = dict(self.documents[name])  # one that changed is another one
        document["status"] = {"parents": [said(document["metadata"]["generation"], **self.verdict)]}
        if self.follows:
            self.follow(name)

    def follow(self, name: str) -> None:
        """The proxy takes the route as it is now."""
        spec = self.documents[name]["spec"]
        self.proxy[spec["hostnames"][0]] = copy.deepcopy(spec)

    def served(self, host: str, variant: str) -> ServedAnswer:
        """What `GatewayUser.served` finds: a request to nobody's rule is answered by the first who answers."""
        self.asked.append((host, variant))
        if host not in self.proxy:
            raise Unavailable(f"The gateway answers HTTP 404 for {host}: no such route")
        for rule in self.proxy[host]["rules"]:
            headers = rule["matches"][0].get("headers", ())
            if any(header["value"] == variant for header in headers):
                if variant not in self.answers:
                    raise Unavailable(f"The gateway answers HTTP 503 for {host}: no healthy upstream")
                says = rule["backendRefs"][0]["filters"][0]["responseHeaderModifier"]["set"]
                return ServedAnswer(variant, int(says[1]["value"]))
        return ServedAnswer(V1, 0)

    @staticmethod
    def split(document: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = document["spec"]["rules"][0]
        return found

    def weights(self, name: str = "chat") -> dict[str, int]:
        return {one["name"]: one["weight"] for one in self.split(self.documents[name])["backendRefs"]}

    def notes(self, name: str = "chat") -> dict[str, str]:
        found: dict[str, str] = self.documents[name]["metadata"]["annotations"]
        return found

    def _write(self, document: Mapping[str, Any], resource_version: str, manager: str) -> Mapping[str, Any]:
        name = document["metadata"]["name"]
        old = self.documents.get(name)
        if resource_version != (old["metadata"]["resourceVersion"] if old else ""):
            raise RouteMoved(f"{name} has another resource version by now.")
        made = copy.deepcopy(dict(document))
        _add_defaults(made["spec"], self.default)
        changed = old is None or old["spec"] != made["spec"]
        if changed and self.refuse:
            raise Rejected(f"refused: {self.refuse}", extra={"words": self.refuse})
        self.writes += 1
        self._versions += 1
        generation = (old["metadata"]["generation"] if old else 0) + changed
        managers = [
            one
            for one in (old or {}).get("metadata", {}).get("managedFields", [])
            if one["manager"] != manager
        ]
        managers.append({"manager": manager, "time": f"2026-01-01T00:00:{self._versions:06d}Z"})
        made["metadata"] |= {
            "resourceVersion": str(self._versions), "generation": generation, "managedFields": managers,
        }  # fmt: skip
        made["status"] = (old or {}).get("status", {"parents": []})
        self.documents[name] = made
        if self.looks:
            self.look(name)
        return copy.deepcopy(self.documents[name])

    def _require_up(self) -> None:
        if self.down:
            raise Unavailable("The API server does not answer.")


def _add_defaults(spec: dict[str, Any], further: Mapping[str, Any]) -> None:
    for rule in spec["rules"]:
        rule |= {name: value for name, value in further.items() if name not in rule}
        for match in rule["matches"]:
            for header in match.get("headers", ()):
                header.setdefault("type", "Exact")
        for reference in rule["backendRefs"]:
            reference.setdefault("weight", 1)
        rule.setdefault("sessionPersistence", None)
