"""What every router refuses before it does anything."""

from __future__ import annotations

import re

from controlplane.kernel.errors import InvalidInput
from rollouts.ports import FULL_SHARE_BP, Route

# Names become parts of paths, cluster names and counters.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_HOST = re.compile(r"[A-Za-z0-9.:_-]+")


def check_route(route: Route) -> None:
    """Raises InvalidInput with the field (`route.shares` ...) that is wrong."""
    _check_name(route.endpoint, "route.endpoint")
    variants = [backend.variant for backend in route.backends]
    for backend in route.backends:
        _check_name(backend.variant, "route.backends")
        if not 0 < backend.port < 65536 or not _HOST.fullmatch(backend.host):
            raise InvalidInput(
                f"Variant {backend.variant} has no usable address: {backend.host!r}, port {backend.port}.",
                field="route.backends",
                fix="Give a host name or IP address and a port from 1 to 65535.",
            )
    if len(set(variants)) != len(variants):
        raise InvalidInput(
            f"A variant of endpoint {route.endpoint} has two backends.",
            field="route.backends",
            fix="Name every variant once.",
        )
    for variant, share in route.shares.items():
        if isinstance(share, bool) or not isinstance(share, int) or not 0 <= share <= FULL_SHARE_BP:
            raise InvalidInput(
                f"The share of {variant} is {share!r}.",
                field="route.shares",
                fix=f"A share is a whole number of basis points from 0 to {FULL_SHARE_BP}.",
            )
        if share and variant not in variants:
            raise InvalidInput(
                f"{variant} has a share of {share} but no backend.",
                field="route.shares",
                fix=f"There are backends of: {', '.join(variants) or 'none'}.",
            )
    total = sum(route.shares.values())
    if total != FULL_SHARE_BP:
        raise InvalidInput(
            f"The shares of endpoint {route.endpoint} sum to {total} basis points.",
            field="route.shares",
            fix=f"They must sum to {FULL_SHARE_BP}.",
        )
    if route.fallback not in variants:
        raise InvalidInput(
            f"The fallback {route.fallback!r} has no backend.",
            field="route.fallback",
            fix=f"Choose one of: {', '.join(variants) or 'none'}.",
        )


def _check_name(name: str, field: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r} cannot be a name here.",
            field=field,
            fix="Use letters, digits, dots, dashes and underscores, a letter or digit first.",
        )
