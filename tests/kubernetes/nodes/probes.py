"""Startup, readiness and liveness probes: asked when they are due, judged by their thresholds."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from typing import Any

import httpx

from tests.kubernetes.nodes.containers import Container

# One for all: making a client costs more than asking. Every probe has a connection of its own, as a kubelet's has.
CLIENT = httpx.Client(trust_env=False, verify=False, limits=httpx.Limits(max_keepalive_connections=0))


@dataclass
class Tally:
    """How a probe of one container went of late."""

    due: float = 0.0  # monotonic
    passed: int = 0
    failed: int = 0


class Probes:
    """The probes of one start of a container whose pod has this address."""

    def __init__(self, container: Container, address: str) -> None:
        self._container = container
        self._address = address
        self._tallies: dict[str, Tally] = {}

    def verdict(self, name: str) -> bool | None:
        """True or False when the probe passed or failed often enough in a row; None when nothing is new."""
        probe = self._container.spec.get(name)
        clock = time.monotonic()
        if not probe or clock < self._container.began + probe.get("initialDelaySeconds", 0):
            return None
        tally = self._tallies.setdefault(name, Tally())
        if clock < tally.due:
            return None
        if self.ask(probe, probe.get("timeoutSeconds", 1)):
            tally.passed, tally.failed = tally.passed + 1, 0
        else:
            tally.passed, tally.failed = 0, tally.failed + 1
        tally.due = time.monotonic() + probe.get("periodSeconds", 10)
        if tally.passed >= probe.get("successThreshold", 1):
            return True
        if tally.failed >= probe.get("failureThreshold", 3):
            tally.failed = 0
            return False
        return None

    def ask(self, probe: dict[str, Any], seconds: float) -> bool:
        """Whether this action (httpGet, tcpSocket or exec) succeeds in this time."""
        if "exec" in probe:
            return self._container.execute(probe["exec"]["command"], seconds)
        action = probe.get("httpGet") or probe.get("tcpSocket")
        if action is None:
            return False  # gRPC, which no engine has
        port = self._port(action["port"])
        try:
            if "httpGet" in probe:
                return self._get(action, port, seconds)
            with socket.create_connection((self._address, port), seconds):
                return True
        except (OSError, httpx.HTTPError):
            return False

    def _get(self, action: dict[str, Any], port: int, seconds: float) -> bool:
        headers = {one["name"]: one["value"] for one in action.get("httpHeaders", [])}
        url = f"http://{self._address}:{port}{action.get('path', '/')}"
        answer = CLIENT.get(url, headers={"User-Agent": "kube-probe/lab"} | headers, timeout=seconds)
        return 200 <= answer.status_code < 400

    def _port(self, named: int | str) -> int:
        if isinstance(named, int):
            return named
        ports = {one.get("name"): one["containerPort"] for one in self._container.spec.get("ports", [])}
        return int(ports[named])
