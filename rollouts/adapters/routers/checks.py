"""What every router refuses before it does anything."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from controlplane.kernel.errors import InvalidInput
from rollouts.adapters.backends import ADDRESS, address_of
from rollouts.ports import FULL_SHARE_BP, EngineApi, Route

# Names become parts of paths, cluster names and counters.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?|\*")


def check_route(route: Route, *, kinds: Collection[str] = (ADDRESS,)) -> None:
    """Raises InvalidInput with the field (`route.shares` ...) that is wrong.

    kinds   of backends that the router knows
    """
    _check_name(route.endpoint, "route.endpoint")
    variants = [backend.variant for backend in route.backends]
    for backend in route.backends:
        _check_name(backend.variant, "route.backends")
        if backend.kind not in kinds:
            raise InvalidInput(
                f"This router cannot reach {backend.variant}: it does not know backends of kind {backend.kind!r}.",
                field="route.backends",
                fix=f"It knows: {', '.join(sorted(kinds))}. Use a cluster and a router that belong together.",
            )
        if backend.kind == ADDRESS:
            address_of(backend)
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
    for rescuer in route.rescuers:
        if rescuer not in variants:
            raise InvalidInput(
                f"{rescuer!r} is to answer for a dead variant but has no backend.",
                field="route.rescuers",
                fix=f"There are backends of: {', '.join(variants)}.",
            )
    _check_api(route.api)


def check_origins(origins: Sequence[str]) -> None:
    """Raises InvalidInput for what is no origin as browsers send it."""
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise InvalidInput(
                f"{origin!r} is no origin.",
                field="cors_origins",
                fix="Write it as browsers send it, https://app.example:8443 without a path, or * for any;"
                " several by comma (HEADGATE_CORS_ORIGINS).",
            )


def _check_api(api: EngineApi) -> None:
    if not api.inference:
        raise InvalidInput("The endpoint has no inference path.", field="route.api")
    for path in (*api.inference, *api.other):
        if not _PATH.fullmatch(path):
            raise InvalidInput(f"{path!r} is no path of an engine.", field="route.api")


def _check_name(name: str, field: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{name!r} cannot be a name here.",
            field=field,
            fix="Use letters, digits, dots, dashes and underscores, a letter or digit first.",
        )
