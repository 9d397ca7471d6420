"""An Envoy as Envoy Gateway configures it: the real program, from HTTPRoutes and the objects in deploy/kubernetes.

No controller runs here. What it makes of the objects is written down once more, by its translator of 1.9: the names of
routes, one Envoy route a match, weighted clusters with the filters of each reference, the access log of the EnvoyProxy,
the header settings of the ClientTrafficPolicy, and the script of an EnvoyExtensionPolicy: a filter that is off, but for
the routes that the policy is about.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.standins.running import ROOT, wait_until

ENVOY = Path(sys.executable).parent / "envoy"
OBJECTS = ROOT / "deploy" / "kubernetes" / "attribution.yaml"
WHOLE_ANSWERS = ROOT / "deploy" / "kubernetes" / "whole-answers.yaml"
LUA = "envoy.filters.http.lua/envoyextensionpolicy"
TYPE = "type.googleapis.com/envoy."
OPTIONS = f"{TYPE}extensions.upstreams.http.v3.HttpProtocolOptions"
OTEL = f"{TYPE}extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig"
SCRIPT_ON = {"typed_per_filter_config": {LUA: {"@type": f"{TYPE}config.route.v3.FilterConfig", "config": {}}}}
SINK = "accesslog"
START_SECONDS = 60.0


def objects(**values: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The EnvoyProxy and the ClientTrafficPolicy, with values for what the file has in capitals."""
    text = OBJECTS.read_text()
    for name, value in values.items():
        text = text.replace(name, value)
    proxy, policy = yaml.safe_load_all(text)
    return proxy, policy


def script_of(policy: Path = WHOLE_ANSWERS) -> str:
    """What an EnvoyExtensionPolicy has Envoy run."""
    (document,) = yaml.safe_load_all(policy.read_text())
    (script,) = document["spec"]["lua"]
    assert script["type"] == "Inline"
    return str(script["inline"])


class RunningGateway:
    """`kill()` is kill -9; `close()` removes its folder, too.

    port           where it serves
    receiver_port  where it sends its access log, on this machine
    objects        as `objects` gives them
    script         that an EnvoyExtensionPolicy has it run for those routes that it is about
    """

    def __init__(
        self,
        port: int,
        receiver_port: int,
        both: tuple[dict[str, Any], dict[str, Any]],
        *,
        script: str = "",
    ) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._script = script
        self._folder = Path(tempfile.mkdtemp(prefix="hg-gw-", dir="/tmp"))
        self._version = 0
        self._documents: dict[str, dict[str, Any]] = {}
        self._scripted: set[str] = set()
        self._backends: dict[str, int] = {}
        self._process: subprocess.Popen[bytes] | None = None
        boot = self._bootstrap(port, receiver_port, *both)
        (self._folder / "boot.json").write_text(json.dumps(boot))
        self._write()

    @property
    def _admin(self) -> Path:
        return self._folder / "admin.sock"

    def start(self) -> None:
        command = [str(ENVOY), "-c", str(self._folder / "boot.json"), "--disable-hot-restart"]
        command += ["--concurrency", "1", "--log-level", "warn", "--log-path", str(self._folder / "log")]
        self._process = subprocess.Popen(command)
        wait_until("the gateway has its routes", self._has_routes, START_SECONDS)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._admin.unlink(missing_ok=True)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def serve(
        self, document: Mapping[str, Any], backends: Mapping[str, int], *, scripted: bool = False
    ) -> None:
        """Puts an HTTPRoute in force, and returns when it is. `backends`: the port of each Service that it names;
        `scripted`: whether its requests go by the script."""
        for name, port in backends.items():
            assert self._backends.setdefault(name, port) == port
        name = document["metadata"]["name"]
        self._documents[name] = dict(document)
        (self._scripted.add if scripted else self._scripted.discard)(name)
        self._write()
        if self._process is not None:
            wait_until("the gateway has its routes", self._has_routes, START_SECONDS)

    def stat(self, name: str) -> str:
        """One of Envoy's own numbers; "" when it has none of this name."""
        transport = httpx.HTTPTransport(uds=str(self._admin))
        with httpx.Client(transport=transport, base_url="http://envoy") as client:
            lines = client.get("/stats", params={"filter": f"^{name}$"}).text.splitlines()
        return lines[0].partition(": ")[2].strip('"') if lines else ""

    def numbers(self, pattern: str) -> str:
        """Envoy's own numbers whose names match and that are not 0, a line each."""
        transport = httpx.HTTPTransport(uds=str(self._admin))
        with httpx.Client(transport=transport, base_url="http://envoy") as client:
            lines = client.get("/stats", params={"filter": pattern}).text.splitlines()
        return "\n".join(line for line in lines if not line.endswith((": 0", "No recorded values")))

    def counters(self, cluster: str) -> str:
        """What a scrape says of one cluster, in Prometheus' format."""
        transport = httpx.HTTPTransport(uds=str(self._admin))
        with httpx.Client(transport=transport, base_url="http://envoy") as client:
            asked = {"filter": rf"^cluster\.{cluster}\.", "format": "prometheus"}
            return client.get("/stats", params=asked).text

    def _has_routes(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text()[-2000:]
        if not self._admin.exists():
            return False
        try:
            loaded = self.stat("http.edge.rds.main.version_text") == str(self._version)
            return loaded and self.stat("cluster_manager.cds.version_text") == str(self._version)
        except httpx.TransportError:
            return False

    def _write(self) -> None:
        """Clusters first: a route to one that is not there would answer 503."""
        self._version += 1
        clusters = [_cluster(name, port) for name, port in sorted(self._backends.items())]
        hosts = [
            {
                "name": name,
                "domains": document["spec"]["hostnames"],
                "routes": [
                    {**one, **(SCRIPT_ON if name in self._scripted else {})} for one in envoy_routes(document)
                ],
            }
            for name, document in sorted(self._documents.items())
        ]
        self._put("cds", "cluster.v3.Cluster", clusters or [_cluster("nowhere", 1)])
        self._put("rds", "route.v3.RouteConfiguration", [{"name": "main", "virtual_hosts": hosts}])

    def _put(self, name: str, kind: str, resources: list[dict[str, Any]]) -> None:
        typed = [{"@type": f"{TYPE}config.{kind}", **resource} for resource in resources]
        part = self._folder / f"{name}.part"
        part.write_text(json.dumps({"version_info": str(self._version), "resources": typed}))
        part.replace(self._folder / f"{name}.json")

    def _watched(self, name: str) -> dict[str, Any]:
        path = str(self._folder / f"{name}.json")
        return {"resource_api_version": "V3", "path_config_source": {"path": path}}

    def _bootstrap(
        self, port: int, receiver_port: int, proxy: Mapping[str, Any], policy: Mapping[str, Any]
    ) -> dict[str, Any]:
        manager = {
            "@type": f"{TYPE}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "edge",
            "use_remote_address": True,
            "normalize_path": True,
            "merge_slashes": True,
            "access_log": access_logs(proxy),
            "rds": {"route_config_name": "main", "config_source": self._watched("rds")},
            **header_settings(policy),
        }
        if self._script:
            kind = f"{TYPE}extensions.filters.http.lua.v3.Lua"
            lua = {"@type": kind, "default_source_code": {"inline_string": self._script}}
            off = {"name": LUA, "disabled": True, "typed_config": lua}
            *others, router = manager["http_filters"]
            manager["http_filters"] = [*others, off, router]
        listener = {
            "name": "edge",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "filter_chains": [
                {
                    "filters": [
                        {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
                    ]
                }
            ],
        }
        http2 = {"@type": OPTIONS, "explicit_http_config": {"http2_protocol_options": {}}}
        sink = _cluster(SINK, receiver_port) | {"typed_extension_protocol_options": {OPTIONS[20:]: http2}}
        return {
            "node": {"id": "edge", "cluster": "edge"},
            "admin": {"address": {"pipe": {"path": str(self._admin)}}},
            "static_resources": {"listeners": [listener], "clusters": [sink]},
            "dynamic_resources": {"cds_config": self._watched("cds")},
        }


def envoy_routes(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The Envoy routes of an HTTPRoute: those with more headers first, as the Gateway API has it."""
    meta, spec = document["metadata"], document["spec"]
    host = spec["hostnames"][0].replace(".", "_")
    found: list[tuple[int, dict[str, Any]]] = []
    for number, rule in enumerate(spec["rules"]):
        for place, match in enumerate(rule["matches"]):
            headers = [
                {"name": one["name"], "string_match": {"exact": one["value"]}}
                for one in match.get("headers", ())
            ]
            asked = len(headers)
            if "method" in match:
                headers.append({"name": ":method", "string_match": {"exact": match["method"]}})
            name = f"httproute/{meta['namespace']}/{meta['name']}/rule/{number}/match/{place}/{host}"
            clusters = {"clusters": [_weighted(one) for one in rule["backendRefs"]]}
            route = {"weighted_clusters": clusters, "timeout": rule["timeouts"]["request"]}
            where = {"path": match["path"]["value"], "headers": headers}
            entry = {"name": name, "match": where, "route": route, **_modified(rule.get("filters", ()))}
            found.append((asked, entry))
    return [route for _, route in sorted(found, key=lambda one: -one[0])]


def _weighted(reference: Mapping[str, Any]) -> dict[str, Any]:
    filters = _modified(reference.get("filters", ()))
    return {"name": reference["name"], "weight": reference["weight"], **filters}


def _modified(filters: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in filters:
        assert one["type"] == "ResponseHeaderModifier", one
        modifier = one["responseHeaderModifier"]
        if "set" in modifier:
            found["response_headers_to_add"] = [_set(header) for header in modifier["set"]]
        if "remove" in modifier:
            found["response_headers_to_remove"] = modifier["remove"]
    return found


def _set(header: Mapping[str, str]) -> dict[str, Any]:
    pair = {"key": header["name"], "value": header["value"]}
    return {"header": pair, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def access_logs(proxy: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The access logs of an EnvoyProxy's routes; what Envoy Gateway always adds is there, too."""
    found = []
    for setting in proxy["spec"]["telemetry"]["accessLog"]["settings"]:
        assert setting["type"] == "Route"
        (expression,) = setting["matches"]
        (sink,) = setting["sinks"]
        attributes = {
            "k8s.namespace.name": "gateways",
            "k8s.pod.name": "edge-0",
            **setting["format"]["json"],
        }
        values = [{"key": name, "value": {"string_value": value}} for name, value in attributes.items()]
        metadata = [{"key": one["name"], "value": one["value"]} for one in sink["openTelemetry"]["headers"]]
        service = {"envoy_grpc": {"cluster_name": SINK}, "initial_metadata": metadata}
        config = {
            "@type": OTEL,
            "common_config": {
                "log_name": "otel_envoy_accesslog",
                "grpc_service": service,
                "transport_api_version": "V3",
            },
            "attributes": {"values": values},
        }
        kind = f"{TYPE}extensions.access_loggers.filters.cel.v3.ExpressionFilter"
        cel = {"name": "cel", "typed_config": {"@type": kind, "expression": expression}}
        log = {"name": "envoy.access_loggers.open_telemetry", "typed_config": config}
        found.append({**log, "filter": {"extension_filter": cel}})
    return found


def header_settings(policy: Mapping[str, Any]) -> dict[str, Any]:
    """What a ClientTrafficPolicy does to headers."""
    headers = policy["spec"]["headers"]
    assert headers["requestID"] == "Generate"
    early = {
        "@type": f"{TYPE}extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
        "mutations": [{"remove": name} for name in headers["earlyRequestHeaders"]["remove"]],
    }
    late = {
        "@type": f"{TYPE}extensions.filters.http.header_mutation.v3.HeaderMutation",
        "mutations": {
            "response_mutations": [
                {"append": _set(header)} for header in headers["lateResponseHeaders"]["set"]
            ]
        },
    }
    router = {"@type": f"{TYPE}extensions.filters.http.router.v3.Router", "suppress_envoy_headers": True}
    return {
        "generate_request_id": True,
        "preserve_external_request_id": False,
        "early_header_mutation_extensions": [
            {"name": "envoy.http.early_header_mutation.header_mutation", "typed_config": early}
        ],
        "http_filters": [
            {"name": "envoy.filters.http.header_mutation", "typed_config": late},
            {"name": "envoy.filters.http.router", "typed_config": router},
        ],
    }


def _cluster(name: str, port: int) -> dict[str, Any]:
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
    }
