"""Envoy's admin interface, over its unix socket."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

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


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket. (httpx leaves the socket open when the connection is refused.)"""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("envoy", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class EnvoyAdmin:
    """Asks Envoy, on a new connection each time: a kept one would not outlive Envoy's restart.

    Every call raises Unavailable when Envoy does not answer. The constructor raises InvalidInput when the
    socket's path is longer than the system allows.
    """

    def __init__(self, path: Path, *, timeout: float = 5.0) -> None:
        if len(os.fsencode(path)) > _SOCKET_PATH_LIMIT:
            raise InvalidInput(
                f"The path of Envoy's socket is too long for this system: {path}",
                field="run_dir",
                fix=f"Choose a run folder so that it has at most {_SOCKET_PATH_LIMIT} bytes.",
            )
        self._path = path
        self._timeout = timeout

    def text(self, path: str, **query: str) -> str:
        """The answer to GET path?query."""
        return self._ask("GET", path, query)

    def json(self, path: str, **query: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._ask("GET", path, query))
        return found

    def post(self, path: str) -> None:
        self._ask("POST", path, {})

    def _ask(self, method: str, path: str, query: Mapping[str, str]) -> str:
        connection = _Connection(self._path, self._timeout)
        try:
            connection.request(method, f"{path}?{urlencode(query)}" if query else path)
            response = connection.getresponse()
            body = response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(
                f"Envoy does not answer on {self._path} ({path}): {error or type(error).__name__}.",
                fix="See whether the router process runs.",
            ) from error
        finally:
            connection.close()
        if response.status != 200:
            raise Unavailable(f"Envoy answered {path} with HTTP {response.status}: {body[:200].strip()}")
        return body

    def started_at(self) -> float:
        """When this Envoy process started, in seconds since the epoch; the same value for all its life.

        It is the time at which the listener came into force. Envoy tells its uptime only in whole seconds,
        which would make the same process look like two.
        """
        mask = "active_state.last_updated"
        dump = self.json("/config_dump", resource="dynamic_listeners", mask=mask)
        for listener in dump.get("configs", ()):
            if stamp := listener.get("active_state", {}).get("last_updated"):
                return _seconds(stamp)
        raise Unavailable("Envoy has no listener yet.", fix="It is starting; try again.")

    def acceptance(self, kind: str) -> Acceptance:
        """`kind` is "cluster_manager.cds" or "http.gw.rds.main"."""
        names = f"^{re.escape(kind)}\\.(version_text|update_rejected|update_failure)$"
        stats = self.json("/stats", filter=names, format="json")["stats"]
        values = {stat["name"].rsplit(".", 1)[1]: stat["value"] for stat in stats if "name" in stat}
        refusals = int(values.get("update_rejected", 0)) + int(values.get("update_failure", 0))
        return Acceptance(str(values.get("version_text", "")), refusals)

    def warming_clusters(self) -> int:
        """Clusters that wait for their first health check; a route must not name them yet."""
        name = "^cluster_manager\\.warming_clusters$"
        stats = self.json("/stats", filter=name, format="json")["stats"]
        return sum(int(stat["value"]) for stat in stats if "value" in stat)

    def routes(self) -> tuple[str, dict[str, Any]]:
        """The route table in force and its version; ("", {}) before the first."""
        dump = self.json("/config_dump", resource="dynamic_route_configs")
        for config in dump.get("configs", ()):
            return str(config.get("version_info", "")), dict(config.get("route_config", {}))
        return "", {}

    def healthy_variants(self, endpoint: str) -> frozenset[str]:
        """Variants whose backends Envoy would send requests to."""
        found: set[str] = set()
        for cluster in self.json("/clusters", format="json").get("cluster_statuses", ()):
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
