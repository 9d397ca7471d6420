"""Envoy's admin interface, over its unix socket."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from controlplane.kernel.errors import InvalidInput, Unavailable
from rollouts.adapters.routers.envoy_routes import ANSWER, split_cluster_name

# sun_path of a unix socket address holds 108 bytes with its final zero (man 7 unix).
_SOCKET_PATH_LIMIT = 107


@dataclass(frozen=True, slots=True)
class Acceptance:
    """How Envoy took one kind of discovery file.

    version   of the configuration in force ("" before the first)
    refusals  how many files it refused or could not read since it started
    """

    version: str
    refusals: int


class EnvoyAdmin:
    """Asks Envoy. Every call raises Unavailable when Envoy does not answer.

    Raises InvalidInput when the socket's path is longer than the system allows.
    """

    def __init__(self, socket: Path, *, timeout: float = 5.0) -> None:
        if len(str(socket)) > _SOCKET_PATH_LIMIT:
            raise InvalidInput(
                f"The path of Envoy's socket is too long for this system: {socket}",
                field="run_dir",
                fix=f"Choose a run folder so that it has at most {_SOCKET_PATH_LIMIT} characters.",
            )
        self._socket = socket
        # A connection for each call: a kept one would outlive Envoy's restart and a fork of the worker.
        transport = httpx.HTTPTransport(uds=str(socket), limits=httpx.Limits(max_keepalive_connections=0))
        self._client = httpx.Client(transport=transport, base_url="http://envoy", timeout=timeout)

    def get(self, path: str, **query: str) -> httpx.Response:
        return self._ask("GET", path, query)

    def post(self, path: str, **query: str) -> httpx.Response:
        return self._ask("POST", path, query)

    def _ask(self, method: str, path: str, query: dict[str, str]) -> httpx.Response:
        try:
            response = self._client.request(method, path, params=query)
            response.raise_for_status()
        except httpx.HTTPError as error:
            raise Unavailable(
                f"Envoy does not answer on {self._socket} ({path}): {error or type(error).__name__}.",
                fix="See whether the router process runs.",
            ) from error
        return response

    def started_at(self) -> float:
        """When this Envoy process started, in seconds since the epoch; the same value for all its life.

        It is the time at which the listener came into force. Envoy tells its uptime only in whole seconds,
        which would make the same process look like two.
        """
        dump = self.get("/config_dump", resource="dynamic_listeners", mask="active_state.last_updated").json()
        for listener in dump.get("configs", ()):
            if stamp := listener.get("active_state", {}).get("last_updated"):
                return _seconds(stamp)
        raise Unavailable("Envoy has no listener yet.", fix="It is starting; try again.")

    def acceptance(self, kind: str) -> Acceptance:
        """`kind` is "cluster_manager.cds" or "http.gw.rds.main"."""
        names = f"^{re.escape(kind)}\\.(version_text|update_rejected|update_failure)$"
        stats = self.get("/stats", filter=names, format="json").json()["stats"]
        values = {stat["name"].rsplit(".", 1)[1]: stat["value"] for stat in stats if "name" in stat}
        refusals = int(values.get("update_rejected", 0)) + int(values.get("update_failure", 0))
        return Acceptance(str(values.get("version_text", "")), refusals)

    def warming_clusters(self) -> int:
        """Clusters that wait for their first health check; a route must not name them yet."""
        stats = self.get("/stats", filter="^cluster_manager\\.warming_clusters$", format="json").json()[
            "stats"
        ]
        return int(stats[0]["value"]) if stats else 0

    def routes(self) -> tuple[str, dict[str, Any]]:
        """The route table in force and its version; ("", {}) before the first."""
        dump = self.get("/config_dump", resource="dynamic_route_configs").json()
        for config in dump.get("configs", ()):
            return str(config.get("version_info", "")), dict(config.get("route_config", {}))
        return "", {}

    def healthy_variants(self, endpoint: str) -> frozenset[str]:
        """Variants whose backends Envoy would send requests to."""
        found: set[str] = set()
        for cluster in self.get("/clusters", format="json").json().get("cluster_statuses", ()):
            kind, of_endpoint, variant = split_cluster_name(cluster["name"])
            if kind != ANSWER or of_endpoint != endpoint:
                continue
            for host in cluster.get("host_statuses", ()):
                if host.get("health_status") == {"eds_health_status": "HEALTHY"}:
                    found.add(variant)
        return frozenset(found)


def _seconds(stamp: str) -> float:
    """Envoy's `2026-11-21T09:22:15.552Z` in seconds since the epoch."""
    return datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
