"""What is inside a backend: for routers and for what reads engines. Everybody else passes backends on unread."""

from __future__ import annotations

import re

from controlplane.kernel.errors import InvalidInput
from rollouts.ports import Backend

ADDRESS = "address"  # a host and a port
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})")


def at_address(variant: str, host: str, port: int) -> Backend:
    """A backend of kind "address". `host` is a name or an IP address."""
    shown = f"[{host}]" if ":" in host else host
    return Backend(variant, ADDRESS, address=f"{shown}:{port}")


def address_of(backend: Backend) -> tuple[str, int]:
    """(host, port) of a backend of kind "address". Raises InvalidInput for another kind, and for what is no address."""
    if backend.kind != ADDRESS:
        raise InvalidInput(
            f"Variant {backend.variant} has no address: its backend is of kind {backend.kind!r}.",
            field="route.backends",
            fix=f"Only a backend of kind {ADDRESS!r} has one.",
        )
    found = _ADDRESS.fullmatch(backend.address)
    if found is None or not 0 < int(found[3]) < 65536:
        raise InvalidInput(
            f"Variant {backend.variant} has no usable address: {backend.address!r}.",
            field="route.backends",
            fix="Give a host name or IP address and a port from 1 to 65535, as host:port.",
        )
    return found[1] or found[2], int(found[3])
