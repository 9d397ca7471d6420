"""Envoy's configuration as plain data, from routes: pure functions; equal routes give equal bytes.

What an endpoint becomes:

    routes  /ENDPOINT/...                which call goes to which of these clusters (see envoy_table)
    cluster assigned/ENDPOINT/VARIANT    an aggregate: the first healthy one of answer/ENDPOINT/VARIANT, the fallback's
                                         and the rescuers' answer/..., at last fallback/ENDPOINT/...
    cluster other/ENDPOINT/FALLBACK      the same for calls that are no inference, the fallback first
    cluster answer/ENDPOINT/VARIANT      the variant's backend, left out while its health check fails
    cluster fallback/ENDPOINT/VARIANT    the fallback variant's backend, always tried

The name of the cluster that the *route* chose stays with a request whoever answers in the end: it is what the
counters call the assigned arm. The answering backend's own metadata is what they call the variant. A forced
request's cluster never begins with `assigned/`, so it is in no arm.

Decisions
- An inference is retried on connect-failure, refused-stream and reset (before any response). `reset` may run
  one inference twice: an engine that dies takes all its requests in flight with it, and a completion changes
  nothing outside, so a second run costs time while a failed request costs the user. Once a response began
  (vLLM sends a stream's headers at once) nothing is retried. There are more attempts than failures that eject
  a backend, so the last ones reach the fallback. The price: a request that kills engines may kill that of
  the fallback too; `attempts` in the log shows such requests.
- The retry budget is 20% of the active requests, never less than MIN_CONCURRENT_RETRIES: all requests of
  a killed engine come back in the same moment, and a bare share would drop most of them.
- Dead is what does not answer; busy is not dead. Health checks are patient (UNHEALTHY_AFTER failures of up to
  HEALTH_TIMEOUT each): a busy engine on few cores answers /health late, and shifting its traffic away would blame
  it and, worse, pour it over a rescuer that may be smaller. For the same reason an engine's own 5xx never eject it,
  a full one's 503 among them: the gates judge those. What ejects at once are connections that are refused or reset.
- For a dead variant the fallback answers (the baseline), and for a dead fallback the route's rescuers, in their
  order: whoever decides on the route names only variants that no gate blames. All of it counts against the variant
  that was drawn. A rescuer gets the dead one's whole traffic, whatever its size: its circuit breakers are its limit.
- The fallback fails open: when nobody is healthy it is tried all the same, so that a fault of the health check
  alone loses nothing. Without rescuers nobody answers for a dead fallback.
- /v1/models and refusals are answered here, so they cost no engine and are the same on every arm. The table is an
  allowlist by regular expression; `merge_slashes` and `normalize_path` make one path of the ways to write it.
- HTTP/1.0 is accepted, for proxies in front that still speak it (nginx by default).

Source: the API v3 reference of Envoy 1.40; each piece was tried on that version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rollouts.adapters.routers.envoy_logs import NOTE_DONE, access_logs, when
from rollouts.adapters.routers.envoy_routes import (
    ASSIGNED_HEADER,
    TYPE,
    clusters,
    is_aggregate,
)
from rollouts.adapters.routers.envoy_table import BODY_LIMIT_BYTES, route_configuration
from rollouts.domain.gates.latency import VLLM_DURATION_EDGES, VLLM_TTFT_EDGES
from rollouts.ports import Route

TTFT_EDGES = tuple(sorted({*VLLM_TTFT_EDGES, 0.15, 0.2, 0.3, 0.4}))
DURATION_EDGES = tuple(sorted({*VLLM_DURATION_EDGES, 0.05, 0.1, 0.2, 0.4}))
MICROSECONDS, MILLISECONDS = 1_000_000, 1_000  # in a second
EDGES: Mapping[str, tuple[float, ...]] = {"ttft": TTFT_EDGES, "duration": DURATION_EDGES}

# Envoy's limit on the size of a regular expression guards against those of strangers; ours name all paths of an API.
RUNTIME = {"re2.max_program_size.error_level": 20_000, "re2.max_program_size.warn_level": 20_000}


@dataclass(frozen=True, slots=True)
class EnvoySettings:
    """What an operator may choose.

    host, port            where the endpoints are served
    idle_timeout_seconds  the longest silence of an engine, before the first token too
    cors_origins          origins whose pages may call the endpoints from a browser; "*": any
    ttft_edges, duration_edges  edges of the router's histograms in seconds: an SLO must be one of them
    """

    port: int
    host: str = "127.0.0.1"
    idle_timeout_seconds: float = 300.0
    cors_origins: tuple[str, ...] = ()
    ttft_edges: tuple[float, ...] = TTFT_EDGES
    duration_edges: tuple[float, ...] = DURATION_EDGES


@dataclass(frozen=True, slots=True)
class Paths:
    """Where Envoy's files are."""

    run_dir: Path

    @property
    def bootstrap(self) -> Path:
        return self.run_dir / "boot.json"

    @property
    def listeners(self) -> Path:
        return self.run_dir / "xds" / "lds.json"

    @property
    def routes(self) -> Path:
        return self.run_dir / "xds" / "rds.json"

    @property
    def clusters(self) -> Path:
        return self.run_dir / "xds" / "cds.json"

    @property
    def state(self) -> Path:
        return self.run_dir / "routes.json"

    @property
    def lock(self) -> Path:
        return self.run_dir / "routes.lock"

    @property
    def admin(self) -> Path:
        return self.run_dir / "admin.sock"

    @property
    def access_log(self) -> Path:
        return self.run_dir / "access.jsonl"

    @property
    def log(self) -> Path:
        return self.run_dir / "envoy.log"


@dataclass(frozen=True, slots=True)
class Document:
    """A discovery file. Its version is a digest of its content: equal content is equal version."""

    version: str
    content: bytes


def document(kind: str, resources: list[dict[str, Any]]) -> Document:
    """The file that holds `resources`, all of one kind (such as "route.v3.RouteConfiguration")."""
    typed = [{"@type": f"{TYPE}config.{kind}", **resource} for resource in resources]
    version = hashlib.sha256(json.dumps(typed, sort_keys=True).encode()).hexdigest()[:12]
    text = json.dumps({"version_info": version, "resources": typed}, sort_keys=True, indent=1)
    return Document(version, text.encode() + b"\n")


def cluster_document(routes: Mapping[str, Route], *, besides: Mapping[str, Route] | None = None) -> Document:
    """The clusters of `routes`, and those of `besides` whose names `routes` does not have."""
    return _cluster_document([*clusters(besides or {}), *clusters(routes)])


def member_document(routes: Mapping[str, Route], *, of: Mapping[str, Route]) -> Document:
    """The clusters of `of` and, besides or instead, those of `routes` that the aggregates will name.

    An aggregate whose only member is not there yet answers 503 until it is: members come first.
    """
    members = [cluster for cluster in clusters(routes) if not is_aggregate(cluster)]
    return _cluster_document([*clusters(of), *members])


def _cluster_document(found: list[dict[str, Any]]) -> Document:
    """Of clusters with one name, the last."""
    by_name = {cluster["name"]: cluster for cluster in found}
    return document("cluster.v3.Cluster", [by_name[name] for name in sorted(by_name)])


def route_document(
    routes: Mapping[str, Route], settings: EnvoySettings, generations: Mapping[str, int]
) -> Document:
    """`generations`: of the routes, by endpoint; 0 where none is named."""
    table = route_configuration(
        routes, settings.idle_timeout_seconds, settings.cors_origins, generations=generations
    )
    return document("route.v3.RouteConfiguration", [table])


def listener_document(paths: Paths, settings: EnvoySettings) -> Document:
    """The listener that takes its routes from the watched file. Written once: changing it cuts streams."""
    source = {"resource_api_version": "V3", "path_config_source": {"path": str(paths.routes)}}
    served = {"rds": {"route_config_name": "main", "config_source": source}}
    return document("listener.v3.Listener", [listener(paths, settings, served)])


def bootstrap(paths: Paths, settings: EnvoySettings) -> dict[str, Any]:
    """What Envoy starts with; routes and clusters come from files that it watches."""

    def watched(path: Path) -> dict[str, Any]:
        return {"resource_api_version": "V3", "path_config_source": {"path": str(path)}}

    return {
        **_process(paths, settings),
        "dynamic_resources": {"lds_config": watched(paths.listeners), "cds_config": watched(paths.clusters)},
    }


def static_bootstrap(paths: Paths, settings: EnvoySettings, routes: Mapping[str, Route]) -> dict[str, Any]:
    """The same clusters and routes in one static file: what `envoy --mode validate` reads in full."""
    table = route_configuration(routes, settings.idle_timeout_seconds, settings.cors_origins)
    served = {"route_config": table}
    return {
        **_process(paths, settings),
        "static_resources": {
            "listeners": [listener(paths, settings, served)],
            "clusters": clusters(routes),
        },
    }


def _process(paths: Paths, settings: EnvoySettings) -> dict[str, Any]:
    def edges(name: str, seconds: tuple[float, ...], unit: int) -> dict[str, Any]:
        return {"match": {"prefix": f"llm.{name}"}, "buckets": [round(edge * unit) for edge in seconds]}

    return {
        "node": {"id": "headgate", "cluster": "headgate"},
        "admin": {"address": {"pipe": {"path": str(paths.admin), "mode": 0o600}}},
        "layered_runtime": {"layers": [{"name": "headgate", "static_layer": RUNTIME}]},
        "stats_flush_interval": "1s",
        "stats_config": {
            "histogram_bucket_settings": [
                edges("ttft", settings.ttft_edges, MICROSECONDS),
                edges("duration", settings.duration_edges, MICROSECONDS),
                edges("left_ttft", settings.ttft_edges, MILLISECONDS),
                edges("left_duration", settings.duration_edges, MILLISECONDS),
            ]
        },
    }


def listener(paths: Paths, settings: EnvoySettings, served: dict[str, Any]) -> dict[str, Any]:
    """The one listener. `served` says where its routes come from."""
    sse = {
        "response_rules": {
            "content_parser": {
                "name": "envoy.content_parsers.json",
                "typed_config": {
                    "@type": TYPE + "extensions.content_parsers.json.v3.JsonContentParser",
                    "rules": [
                        {
                            "rule": {
                                "selectors": [{"key": "error"}, {"key": "type"}],
                                # a fixed value: an engine's own words would make endless counters
                                "on_present": {
                                    "metadata_namespace": "llm.sse",
                                    "key": "error",
                                    "value": "yes",
                                },
                            }
                        }
                    ],
                },
            }
        }
    }
    manager = {
        "@type": TYPE + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gw",
        "normalize_path": True,
        "merge_slashes": True,
        "http_protocol_options": {"accept_http_10": True, "default_host_for_http_10": "headgate"},
        "always_set_request_id_in_response": True,
        # Feedback is attributed by request id: a client must not choose it, nor say who was assigned.
        "early_header_mutation_extensions": [
            {
                "name": "envoy.http.early_header_mutation.header_mutation",
                "typed_config": {
                    "@type": TYPE + "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
                    "mutations": [
                        {"remove": "x-request-id"},
                        {"remove": ASSIGNED_HEADER},
                        {"remove_on_match": {"key_matcher": {"prefix": "x-envoy-"}}},
                    ],
                },
            }
        ],
        "local_reply_config": {
            "body_format": {
                "content_type": "application/json",
                "json_format": {
                    "error": {
                        "message": "%LOCAL_REPLY_BODY%",
                        "type": "gateway_error",
                        "param": None,
                        "code": "%RESPONSE_CODE_DETAILS%",
                    }
                },
            },
            "mappers": [_own_answers_as_they_are()],
        },
        "access_log_options": {"flush_access_log_on_new_request": True},
        "access_log": access_logs(paths.access_log),
        "http_filters": [
            _filter("cors", "Cors", {}),
            _filter("sse_to_metadata", "SseToMetadata", sse),
            _filter("lua", "Lua", {"default_source_code": {"inline_string": NOTE_DONE}}),
            _filter("router", "Router", {}),
        ],
        **served,
    }
    return {
        "name": "gw",
        "address": {"socket_address": {"address": settings.host, "port_value": settings.port}},
        "per_connection_buffer_limit_bytes": BODY_LIMIT_BYTES,
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _filter(name: str, message: str, config: dict[str, Any]) -> dict[str, Any]:
    kind = f"{TYPE}extensions.filters.http.{name}.v3.{message}"
    return {"name": f"envoy.filters.http.{name}", "typed_config": {"@type": kind, **config}}


def _own_answers_as_they_are() -> dict[str, Any]:
    """Answers of the route table are JSON already; everything else that Envoy says by itself is wrapped."""
    plain = {
        "content_type": "application/json",
        "text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"},
    }
    return {"filter": when("response.code_details == 'direct_response'"), "body_format_override": plain}
