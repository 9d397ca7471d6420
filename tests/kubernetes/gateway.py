"""Envoy Gateway without containers: the real controller, and the real Envoy that this project pins.

The controller runs in its "host" mode, in which it starts Envoy itself, as a child that dies with it. On a cluster the
data plane outlives its controller. So what the controller starts here is a script that notes Envoy's arguments, and
the lab starts Envoy with them.

Unlike on a cluster, the Gateway's condition Programmed stays False, because nothing gives the Gateway an address;
traffic is not affected by it.
"""

from __future__ import annotations

import base64
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.kubernetes.certificates import Authority, Identity, encoded

NAMESPACE = "gateway-system"
CLASS = "lab"
GATEWAY = "edge"
PORT = 80
CONTROLLER = "gateway.envoyproxy.io/lab"


class GatewayHome:
    """The folder in which the controller finds its configuration and notes how Envoy is to be started."""

    def __init__(self, folder: Path, envoy: Path) -> None:
        self.folder = folder
        self.envoy = envoy
        self.configuration = folder / "gateway.yaml"
        self._noted = folder / "envoy.arguments"
        self._version = envoy_version(envoy)

    def prepare(self, authority: Authority, proxy: Identity) -> None:
        """Writes what the controller reads. `proxy` is the certificate with which Envoy asks it."""
        homes = {
            "configHome": self.folder / "config",
            "dataHome": self.folder / "data",
            "stateHome": self.folder / "state",
            "runtimeDir": self.folder / "runtime",
        }
        for home in homes.values():
            home.mkdir(parents=True)
        host = {name: str(home) for name, home in homes.items()}
        content = {
            "apiVersion": "gateway.envoyproxy.io/v1alpha1",
            "kind": "EnvoyGateway",
            "gateway": {"controllerName": CONTROLLER},
            "logging": {"level": {"default": "info"}},
            "extensionApis": {
                "enableLua": True
            },  # for deploy/kubernetes/whole-answers.yaml, where it is applied
            "provider": {
                "type": "Custom",
                "custom": {
                    "resource": {"type": "Kubernetes", "kubernetes": {"leaderElection": {"disable": True}}},
                    "infrastructure": {"type": "Host", "host": host},
                },
            },
        }
        self.configuration.write_text(yaml.safe_dump(content))
        shown = homes["configHome"] / "certs" / "envoy"
        shown.mkdir(parents=True)
        show_certificates(shown, authority, proxy)
        script = homes["dataHome"] / "envoy-versions" / self._version / "bin" / "envoy"
        script.parent.mkdir(parents=True)
        note = f"printf '%s\\0' \"$@\" > {self._noted}.new && mv {self._noted}.new {self._noted}"
        script.write_text(f"#!/bin/sh\n{note}\nexec sleep infinity\n")
        script.chmod(0o755)

    def envoy_command(self) -> list[str] | None:
        """How to start Envoy; None until the controller said so."""
        if not self._noted.exists():
            return None
        arguments = self._noted.read_text().split("\0")[:-1]
        return [str(self.envoy), *arguments, "--log-level", "warn"]

    def objects(self, authority: Authority, proxy: Identity) -> list[tuple[str, dict[str, Any]]]:
        """(where to post it, object) of what makes one Gateway, which takes routes of all namespaces."""
        core = f"/api/v1/namespaces/{NAMESPACE}"
        own = "/apis/gateway.envoyproxy.io/v1alpha1"
        public = "/apis/gateway.networking.k8s.io/v1"
        key = base64.b64encode(secrets.token_bytes(32)).decode()
        shown = {
            "ca.crt": encoded(authority.certificate),
            "tls.crt": encoded(proxy.certificate),
            "tls.key": encoded(proxy.key),
        }
        parameters = {
            "group": "gateway.envoyproxy.io",
            "kind": "EnvoyProxy",
            "name": CLASS,
            "namespace": NAMESPACE,
        }
        listener = {
            "name": "http",
            "port": PORT,
            "protocol": "HTTP",
            "allowedRoutes": {"namespaces": {"from": "All"}},
        }
        return [
            ("/api/v1/namespaces", _object("v1", "Namespace", NAMESPACE)),
            (f"{core}/secrets", _object("v1", "Secret", "envoy-oidc-hmac", data={"hmac-secret": key})),
            (f"{core}/secrets", _object("v1", "Secret", "envoy", type="kubernetes.io/tls", data=shown)),
            (
                f"{own}/namespaces/{NAMESPACE}/envoyproxies",
                _object(
                    "gateway.envoyproxy.io/v1alpha1",
                    "EnvoyProxy",
                    CLASS,
                    spec={
                        "provider": {"type": "Host", "host": {"envoyVersion": self._version}},
                        "concurrency": 2,
                        "telemetry": {"accessLog": {"disable": True}},
                    },
                ),
            ),
            (
                f"{public}/gatewayclasses",
                _object(
                    "gateway.networking.k8s.io/v1",
                    "GatewayClass",
                    CLASS,
                    spec={"controllerName": CONTROLLER, "parametersRef": parameters},
                ),
            ),
            (
                f"{public}/namespaces/{NAMESPACE}/gateways",
                _object(
                    "gateway.networking.k8s.io/v1",
                    "Gateway",
                    GATEWAY,
                    spec={"gatewayClassName": CLASS, "listeners": [listener]},
                ),
            ),
        ]


def show_certificates(folder: Path, authority: Authority, identity: Identity) -> None:
    """Copies them under the names by which the controller and Envoy look for them."""
    shutil.copyfile(authority.certificate, folder / "ca.crt")
    shutil.copyfile(identity.certificate, folder / "tls.crt")
    shutil.copyfile(identity.key, folder / "tls.key")


def envoy_version(envoy: Path) -> str:
    """Of the Envoy at this path, such as 1.40.0."""
    told = subprocess.run([envoy, "--version"], capture_output=True, text=True, check=True).stdout
    return told.split("version:")[1].strip().split("/")[1]


def _object(version: str, kind: str, name: str, **content: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}} | content
