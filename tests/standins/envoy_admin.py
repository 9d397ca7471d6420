"""Envoy's admin interface as a stand-in: right answers about one endpoint, and odd ones where a test wants them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.standins.odd import written
from tests.standins.unix_server import UnixServer, response, short_folder, unix_server

STARTED = "2026-03-02T08:00:00.125Z"
LISTENERS: dict[str, Any] = {"configs": [{"active_state": {"last_updated": STARTED}}]}
CLUSTERS_JSON: dict[str, Any] = {
    "cluster_statuses": [
        {
            "name": "answer/{endpoint}/v2",
            "host_statuses": [{"health_status": {"eds_health_status": "HEALTHY"}}],
        },
        {"name": "nowhere"},
        {
            "name": "answer/{endpoint}/v1",
            "host_statuses": [{"health_status": {"eds_health_status": "HEALTHY"}}],
        },
    ]
}
ROUTES: dict[str, Any] = {
    "configs": [
        {
            "version_info": "abc",
            "route_config": {
                "virtual_hosts": [
                    {
                        "routes": [
                            {"name": "models"},
                            {
                                "name": "{endpoint}",
                                "route": {
                                    "weighted_clusters": {
                                        "clusters": [
                                            {"name": "assigned/{endpoint}/v1", "weight": 9000},
                                            {"name": "assigned/{endpoint}/v2", "weight": "1000"},
                                        ]
                                    }
                                },
                            },
                        ]
                    }
                ]
            },
        }
    ]
}
ACCEPTED: dict[str, Any] = {
    "stats": [
        {"name": "cluster_manager.cds.version_text", "value": "abc"},
        {"name": "cluster_manager.cds.update_rejected", "value": 1},
        {"name": "cluster_manager.cds.update_failure", "value": "0"},
        {"histograms": {"supported_quantiles": [0, 25]}},
    ]
}
COUNTERS = """# TYPE envoy_llm_arrived counter
envoy_llm_arrived{cluster="assigned/{endpoint}/v1"} 90
envoy_llm_arrived{cluster="assigned/{endpoint}/v2"} 10
envoy_llm_requests{cluster="assigned/{endpoint}/v1",variant="v1",code="200",flags="-",got="whole"} 80
envoy_llm_requests{cluster="assigned/{endpoint}/v1",variant="v1",code="500",flags="-",got="whole"} 9
envoy_llm_requests{cluster="assigned/{endpoint}/v2",variant="v2",code="200",flags="-",got="whole"} 10
envoy_llm_ttft_bucket{cluster="assigned/{endpoint}/v1",variant="v1",code="200",flags="-",got="whole",le="100000"} 70
envoy_llm_ttft_bucket{cluster="assigned/{endpoint}/v1",variant="v1",code="200",flags="-",got="whole",le="+Inf"} 80
envoy_llm_ttft_sum{cluster="assigned/{endpoint}/v1",variant="v1",code="200",flags="-",got="whole"} 3849.35
envoy_llm_ttft_count{cluster="assigned/{endpoint}/v1",variant="v1",code="200",flags="-",got="whole"} 80
envoy_llm_requests{cluster="",variant="",route="{endpoint}/other",code="200",flags="-",got="whole"} 4
"""
RIGHT: dict[str, Any] = {
    "listeners": LISTENERS,
    "clusters": CLUSTERS_JSON,
    "routes": ROUTES,
    "stats": ACCEPTED,
    "counters": COUNTERS,
}


class EnvoyStandIn:
    """`odd` holds what is answered instead: a body, or a whole HTTP response, by the name of the answer in RIGHT."""

    def __init__(self, run_dir: Path, server: UnixServer, endpoint: str) -> None:
        self.run_dir = run_dir
        self.odd: dict[str, bytes] = {}
        self.raw: dict[str, bytes] = {}
        self.endpoint = endpoint
        server.answer = lambda target: [self._answer(target)]

    def right(self, name: str) -> bytes:
        found = RIGHT[name]
        body = found.encode() if isinstance(found, str) else written(found)
        return body.replace(b"{endpoint}", self.endpoint.encode())

    def _answer(self, target: str) -> bytes:
        name = _name(target)
        if name in self.raw:
            return self.raw[name]
        return response(self.odd[name] if name in self.odd else self.right(name))


def _name(target: str) -> str:
    parts = urlsplit(target)
    query = parse_qs(parts.query)
    if parts.path == "/config_dump":
        return "listeners" if query["resource"] == ["dynamic_listeners"] else "routes"
    if parts.path == "/stats":
        return "counters" if query["format"] == ["prometheus"] else "stats"
    return "clusters"


@contextmanager
def envoy_standin(endpoint: str = "chat") -> Iterator[EnvoyStandIn]:
    with short_folder() as folder, unix_server(folder / "admin.sock") as server:
        yield EnvoyStandIn(folder, server, endpoint)
