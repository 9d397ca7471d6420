"""Envoy's route table: which call of an endpoint goes where, and what the router answers by itself.

What users reach is an allowlist (`EngineApi`): everything else of an engine, its metrics and its administration among
it, is refused by name. Paths below /ENDPOINT, each with at most one slash at its end (which engines would redirect):

    POST on an inference path          by weight to assigned/..., or to the variant that the header forces
    GET and HEAD on it, `other` paths  to other/..., or to the variant that the header forces; in no arm
    /v1/models, /v1/models/ENDPOINT    answered here, with the same bytes whatever is served
    OPTIONS on any of these            answered here
    anything else                      404 or 405 that names the endpoint and what there is

A path that does not begin with /v1 (/tokenize) is served below /ENDPOINT and below /ENDPOINT/v1: vLLM has it at its
root, and clients that know only their base_url look for it there.

Routes have names by which requests are counted: ENDPOINT (inference), ENDPOINT/other (answered, in no arm) and
ENDPOINT/refused (turned away before an arm was drawn).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rollouts.adapters.routers.envoy_routes import (
    ANSWER,
    ANSWERED_BY,
    ASSIGNED,
    ASSIGNED_HEADER,
    GENERATION,
    OTHER,
    OURS,
    TYPE,
    cluster_name,
)
from rollouts.ports import FORCED_VARIANT_HEADER, Route

BODY_LIMIT_BYTES = 32 * 1024 * 1024
RETRIES = 6
LONGEST_OWN_ANSWER = 65_536  # bytes; Envoy's default of 4,096 would refuse a long list
NAMED_ENDPOINTS = 50
NO_CONTENT = 204
PREFLIGHT_SECONDS = 600

ANY_ORIGIN = "*"
NO_GENERATIONS: Mapping[str, int] = {}
INFERENCE_METHODS = "POST, OPTIONS"
OTHER_METHODS = "GET, HEAD, POST, OPTIONS"
MODELS_METHODS = "GET, HEAD, OPTIONS"
EXPOSED_HEADERS = ("x-request-id", FORCED_VARIANT_HEADER)


def route_configuration(
    routes: Mapping[str, Route],
    idle_timeout_seconds: float,
    cors_origins: Sequence[str] = (),
    *,
    generations: Mapping[str, int] = NO_GENERATIONS,
) -> dict[str, Any]:
    """The route table. An unknown cluster in it is refused (`validate_clusters`), never served as 503.

    cors_origins    origins whose pages may call the endpoints from a browser; "*" is any
    generations     of the routes, by endpoint: Envoy tells with its table in force which ones these are
    """
    table: list[dict[str, Any]] = []
    for route in (routes[endpoint] for endpoint in sorted(routes)):
        table += _endpoint(route, idle_timeout_seconds, generations.get(route.endpoint, 0))
    names = sorted(routes)
    known = ", ".join(names[:NAMED_ENDPOINTS]) or "none yet"
    more = f" and {len(names) - NAMED_ENDPOINTS} more" if len(names) > NAMED_ENDPOINTS else ""
    unknown = f"No such endpoint. Addresses are /ENDPOINT/v1/...; there are: {known}{more}."
    table.append({"match": {"prefix": "/"}, **_error(404, unknown)})
    host: dict[str, Any] = {
        "name": "all",
        "domains": ["*"],
        "routes": table,
        "response_headers_to_add": [_header(FORCED_VARIANT_HEADER, ANSWERED_BY)],
    }
    if cors_origins:
        host["routes"] = list(_for_browsers(table, cors_origins))
        host["typed_per_filter_config"] = {"envoy.filters.http.cors": _cors(cors_origins)}
    return {
        "name": "main",
        "validate_clusters": True,
        "max_direct_response_body_size_bytes": LONGEST_OWN_ANSWER,
        "virtual_hosts": [host],
    }


def _endpoint(route: Route, idle_timeout_seconds: float, generation: int) -> list[dict[str, Any]]:
    endpoint = route.endpoint
    inference = _pattern(endpoint, route.api.inference)
    other = _pattern(endpoint, route.api.other) if route.api.other else ""
    weighted = [
        {
            "name": cluster_name(ASSIGNED, endpoint, variant),
            "weight": route.shares.get(variant, 0),
            "response_headers_to_add": [_header(ASSIGNED_HEADER, variant)],
        }
        for variant in _variants(route)
    ]
    drawn = {"weighted_clusters": {"clusters": weighted}}
    uncounted = {"cluster": cluster_name(OTHER, endpoint, route.fallback)}
    found = list(_engine_routes(route, endpoint, inference, "POST", drawn, idle_timeout_seconds))
    if generation:  # the last of them is the split; a number would be told as a float
        found[-1]["metadata"] = {"filter_metadata": {OURS: {GENERATION: str(generation)}}}
    name = f"{endpoint}/other"
    found += _engine_routes(route, name, inference, "GET|HEAD", uncounted, idle_timeout_seconds)
    if other:
        found += _engine_routes(route, name, other, "GET|HEAD|POST", uncounted, idle_timeout_seconds)
    return [*found, *_models(endpoint), *_turned_away(route, inference, other)]


def _engine_routes(
    route: Route, name: str, path: str, methods: str, target: Mapping[str, Any], idle_timeout_seconds: float
) -> Iterator[dict[str, Any]]:
    """Calls that reach an engine: the forced variant's, a refusal of an unknown one, and `target` for the rest."""
    action = {
        "timeout": "0s",
        "idle_timeout": f"{idle_timeout_seconds:.3f}s",
        "regex_rewrite": {"pattern": {"regex": path}, "substitution": r"\1\2"},
        "retry_policy": {
            "retry_on": "connect-failure,refused-stream,reset",
            "num_retries": RETRIES,
            "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.250s"},
        },
    }
    whole = {"request_body_buffer_limit": BODY_LIMIT_BYTES}
    for variant in _variants(route):
        forced = {"name": FORCED_VARIANT_HEADER, "string_match": {"exact": variant}}
        cluster = cluster_name(ANSWER, route.endpoint, variant)
        yield {
            "name": name,
            **_match(path, methods, forced),
            **whole,
            "route": {**action, "cluster": cluster},
        }
    unknown = f"No such variant. Endpoint {route.endpoint} has: {', '.join(_variants(route))}."
    present = {"name": FORCED_VARIANT_HEADER, "present_match": True}
    refused = f"{route.endpoint}/refused"
    yield {"name": refused, **_match(path, methods, present), **_error(404, unknown)}
    yield {"name": name, **_match(path, methods), **whole, "route": {**action, **target}}


def _models(endpoint: str) -> Iterator[dict[str, Any]]:
    """The model list holds the endpoint and nothing else: what serves it is no name that a client may use."""
    model = {"id": endpoint, "object": "model", "created": 0, "owned_by": "headgate"}
    name, path = f"{endpoint}/other", _models_pattern(endpoint)
    yield {"name": name, **_match(path, "GET|HEAD"), **_own_answer(200, {"object": "list", "data": [model]})}
    itself = f"^/{re.escape(endpoint)}/v1/models/{re.escape(endpoint)}/?$"
    yield {"name": name, **_match(itself, "GET|HEAD"), **_own_answer(200, model)}
    message = f"There is no such model. Endpoint {endpoint} has one, by its own name: {endpoint}."
    yield {
        "name": f"{endpoint}/refused",
        **_match(f"^/{re.escape(endpoint)}/v1/models/.+$", "GET|HEAD"),
        **_error(404, message, code="model_not_found"),
    }


def _turned_away(route: Route, inference: str, other: str) -> Iterator[dict[str, Any]]:
    """OPTIONS, methods that a path does not have, and paths that do not exist."""
    endpoint = route.endpoint
    refused = f"{endpoint}/refused"
    kinds = (
        (inference, INFERENCE_METHODS),
        (other, OTHER_METHODS),
        (_models_pattern(endpoint), MODELS_METHODS),
    )
    for path, methods in kinds:
        if not path:
            continue
        allow = {"response_headers_to_add": [_header("allow", methods)]}
        yield {
            "name": f"{endpoint}/other",
            **_match(path, "OPTIONS"),
            "direct_response": {"status": NO_CONTENT},
            **allow,
        }
        message = f"This path of endpoint {endpoint} takes {methods}."
        yield {"name": refused, **_match(path), **_error(405, message, code="method_not_allowed"), **allow}
    base = f"The base_url of endpoint {endpoint} is http://HOST/{endpoint}/v1"
    without = [path.removeprefix("/v1") for path in route.api.inference if path.startswith("/v1/")]
    versionless = "|".join(re.escape(path) for path in [*without, "/models"])
    yield {
        "name": refused,
        **_match(f"^/{re.escape(endpoint)}(?:{versionless})?/?$"),
        **_error(404, f"{base}: /v1 is missing in this request. {_what_there_is(route)}"),
    }
    yield {
        "name": refused,
        **_match(f"^/{re.escape(endpoint)}/v1/v1(?:/.*)?$"),
        **_error(404, f"{base}: this request has /v1 twice. {_what_there_is(route)}"),
    }
    yield {
        "name": refused,
        "match": {"path_separated_prefix": f"/{endpoint}"},
        **_error(404, f"Endpoint {endpoint} has no such path. {base}. {_what_there_is(route)}"),
    }


def _what_there_is(route: Route) -> str:
    def listed(paths: Sequence[str]) -> str:
        return ", ".join(f"/{route.endpoint}{path}" for path in paths)

    other = f" Not counted: {listed(route.api.other)}." if route.api.other else ""
    return f"There are: {listed(('/v1/models',))}; POST {listed(route.api.inference)}.{other}"


def _variants(route: Route) -> list[str]:
    return sorted(backend.variant for backend in route.backends)


def _pattern(endpoint: str, paths: Sequence[str]) -> str:
    r"""A regular expression of the paths below the endpoint; `\1\2` is the engine's own path."""
    versioned = "|".join(re.escape(path) for path in paths if path.startswith("/v1/"))
    rooted = "|".join(re.escape(path) for path in paths if not path.startswith("/v1/"))
    parts = [f"({versioned})" if versioned else "()", f"(?:/v1)?({rooted})" if rooted else "()"]
    either = "|".join(part for part in parts if part != "()") if versioned and rooted else "".join(parts)
    return f"^/{re.escape(endpoint)}(?:{either})/?$"


def _models_pattern(endpoint: str) -> str:
    return f"^/{re.escape(endpoint)}/v1/models/?$"


def _match(path: str, methods: str = "", *headers: dict[str, Any]) -> dict[str, Any]:
    conditions = list(headers)
    if methods:
        conditions.insert(0, {"name": ":method", "string_match": {"safe_regex": {"regex": methods}}})
    match: dict[str, Any] = {"safe_regex": {"regex": path}}
    return {"match": {**match, "headers": conditions} if conditions else match}


def _origin_regex(origins: Sequence[str]) -> dict[str, Any]:
    regex = ".*" if ANY_ORIGIN in origins else "|".join(re.escape(origin) for origin in sorted(set(origins)))
    return {"safe_regex": {"regex": regex}}


def _cors(origins: Sequence[str]) -> dict[str, Any]:
    """What the filter adds to answers of engines; it passes over what the table answers itself."""
    return {
        "@type": TYPE + "extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": [_origin_regex(origins)],
        "expose_headers": ", ".join(EXPOSED_HEADERS),
    }


def _for_browsers(table: Sequence[dict[str, Any]], origins: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The table with, before each answer of its own, the same one for the allowed origins with the headers for them."""
    headers = [
        _header("access-control-allow-origin", "%REQ(origin)%"),
        _header("access-control-expose-headers", ", ".join(EXPOSED_HEADERS)),
        _header("vary", "origin"),
    ]
    preflight = [
        _header("access-control-allow-methods", OTHER_METHODS),
        # By the Fetch standard the star covers every header but this one.
        _header("access-control-allow-headers", "authorization, *"),
        _header("access-control-max-age", str(PREFLIGHT_SECONDS)),
    ]
    origin = {"name": "origin", "string_match": _origin_regex(origins)}
    for route in table:
        if "direct_response" in route:
            conditions = [*route["match"].get("headers", ()), origin]
            added = [*route.get("response_headers_to_add", ()), *headers]
            added += preflight if route["direct_response"]["status"] == NO_CONTENT else []
            yield {
                **route,
                "match": {**route["match"], "headers": conditions},
                "response_headers_to_add": added,
            }
        yield route


def _header(name: str, value: str) -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _error(status: int, message: str, *, code: str = "not_found") -> dict[str, Any]:
    """An answer of the router in the form of OpenAI's errors."""
    error = {"message": message, "type": "gateway_error", "param": None, "code": code}
    return _own_answer(status, {"error": error})


def _own_answer(status: int, data: Mapping[str, Any]) -> dict[str, Any]:
    body = json.dumps(data, separators=(",", ":"))
    return {"direct_response": {"status": status, "body": {"inline_string": body}}}
