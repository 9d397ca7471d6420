"""Pods' networks: a namespace each, with a cable to the sandbox's bridge."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

from tests.kubernetes.sandbox import Addresses


class Networks:
    """Gives each pod a network with an address of its own, and takes it back."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self._free = list(range(250))
        self._lock = threading.Lock()
        self._used: dict[str, int] = {}

    def path(self, uid: str) -> Path:
        """The pod's network, as nsenter takes it."""
        return Path("/run/netns") / _named(uid)

    def add(self, uid: str) -> str:
        """The pod's address."""
        with self._lock:
            self._used[uid] = index = self._free.pop(0)
        address = self._addresses.pod(index)
        name, cable = _named(uid), f"v{_named(uid)}"
        _ip("netns", "add", name)
        _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", cable, "master", "pods", "up")
        _ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "link", "set", "eth0", "up")
        _ip("-n", name, "route", "add", "default", "via", self._addresses.bridge)
        return address

    def remove(self, uid: str) -> None:
        """The address is given to another pod as late as possible."""
        with self._lock:
            index = self._used.pop(uid, None)
        if index is not None:
            _ip("netns", "delete", _named(uid))
            with self._lock:
                self._free.append(index)


def _named(uid: str) -> str:
    """Short enough for an interface, and one pod's own."""
    return uid.replace("-", "")[:12]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, stdout=subprocess.DEVNULL)
