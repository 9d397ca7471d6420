"""Probes what a cluster's gateway really does, once: gateways say Accepted of what they then do otherwise.

A route of its own (endpoint `PROBE_ENDPOINT`) over two backends that answer is put in force, asked, and read. What a
gateway was declared to do counts only where a probe shows it; what was not declared and works is told, too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from controlplane.kernel.errors import HeadgateError, Rejected, Unavailable
from rollouts.adapters.routers.gateway_api.api import RouteStore
from rollouts.adapters.routers.gateway_api.implementations import GatewayTrait
from rollouts.adapters.routers.gateway_api.objects import GatewayPlace, RouteMirror, document_of
from rollouts.adapters.routers.gateway_api.reading import is_ours, read_route
from rollouts.adapters.routers.gateway_api.references import route_name
from rollouts.ports import FULL_SHARE_BP, Backend, Route

PROBE_ENDPOINT = "headgate.probe"  # no endpoint of users has a dot in its name
DRAWN, FORCED, MIRRORED = 200, 20, 400  # requests of each probe
PART = 0.25  # that is mirrored
SIGMAS = 6.0  # of binomial noise: wrong once in 500 million probes
SETTLE_SECONDS = 2.0  # from a gateway's word until all of its processes do it

Ask = Callable[[str, str], str]  # (host, forced variant or "") -> the variant that answers, by its own word


@dataclass(frozen=True, slots=True)
class GatewayFinding:
    """What a probe found. `words` say it in numbers."""

    trait: GatewayTrait
    holds: bool
    words: str


def zero_finding(zero: str, answered: Mapping[str, int]) -> GatewayFinding:
    """Of requests that were drawn while `zero` had weight 0."""
    number = sum(answered.values())
    got = answered.get(zero, 0)
    return GatewayFinding(
        GatewayTrait.KEEPS_ZERO,
        number > 0 and got == 0,
        f"a backend with weight 0 got {got} of {number} requests",
    )


def forced_finding(forced: str, answered: Mapping[str, int]) -> GatewayFinding:
    """Of requests that were forced to `forced`, which has weight 0."""
    number = sum(answered.values())
    got = answered.get(forced, 0)
    return GatewayFinding(
        GatewayTrait.HEADER_WINS,
        number > 0 and got == number,
        f"{got} of {number} forced requests were answered by the variant that they name",
    )


def mirror_finding(sent: int, mirrored: int, part: float) -> GatewayFinding:
    """Of `sent` requests, of which `part` was to be mirrored."""
    noise = SIGMAS * math.sqrt(sent * part * (1 - part))
    return GatewayFinding(
        GatewayTrait.MIRRORS_A_PART,
        sent > 0 and abs(mirrored - sent * part) <= noise,
        f"{mirrored} of {sent} requests were mirrored, where {sent * part:.0f} were to be",
    )


class GatewayProbe:
    """Probes one gateway.

    backends   of two variants that answer now
    ask        a request for the list of models; raises Unavailable
    infer      sends an inference and reads nothing of its answer but who gave it, as `ask`
    received   how many inferences this variant's own engine has received so far; None where nobody can tell: then the
               mirror is not probed, and counts as not shown
    sleep      waits so many seconds
    """

    def __init__(
        self,
        store: RouteStore,
        place: GatewayPlace,
        backends: tuple[Backend, Backend],
        *,
        ask: Ask,
        infer: Ask,
        received: Callable[[str], int] | None = None,
        sleep: Callable[[float], None] = time.sleep,
        patience_seconds: float = 60.0,
    ) -> None:
        self._store = store
        self._place = replace(place, keeps_zero=True)
        self._first, self._second = (backend.variant for backend in backends)
        self._backends = backends
        self._ask = ask
        self._infer = infer
        self._received = received
        self._sleep = sleep
        self._patience_seconds = patience_seconds

    def run(self) -> tuple[GatewayFinding, ...]:
        """What was found, with the route taken out of force behind it (it stays with no share but the first's).

        Raises Unavailable when the gateway does not put the route in force, or nobody answers; Rejected when somebody
        else has a route of that name.
        """
        self._publish(None)
        self._until_answered()
        findings = [
            zero_finding(self._second, self._count(self._infer, DRAWN, "")),
            forced_finding(self._second, self._count(self._ask, FORCED, self._second)),
        ]
        if self._received is None:
            words = "nobody can tell what an engine received: not probed"
            return (*findings, GatewayFinding(GatewayTrait.MIRRORS_A_PART, False, words))
        numerator = round(PART * FULL_SHARE_BP)
        self._publish(RouteMirror(self._backends[1], numerator))
        before = self._received(self._second)
        sent = sum(self._count(self._infer, MIRRORED, "").values())
        self._sleep(SETTLE_SECONDS)  # nobody waits for a mirrored request
        mirrored = self._received(self._second) - before
        self._publish(None)
        return (*findings, mirror_finding(sent, mirrored, PART))

    def _publish(self, mirror: RouteMirror | None) -> None:
        """Puts the probe's route in force."""
        route = Route(PROBE_ENDPOINT, {self._first: FULL_SHARE_BP}, self._backends, self._first)
        name = route_name(PROBE_ENDPOINT)
        there = self._store.get(name)
        if there is not None and not is_ours(there, self._place):
            raise Rejected(
                f"httproute {self._place.namespace}/{name} belongs to somebody else.",
                fix="Rename it. Headgate changes only what it wrote.",
            )
        document: dict[str, Any] = document_of(route, self._place, token=0, since=0.0, mirror=mirror)
        version = str(there["metadata"]["resourceVersion"]) if there is not None else ""
        self._store.write(document, resource_version=version)
        self._until("the gateway has the probe's route in force", lambda: self._in_force(name))
        self._sleep(SETTLE_SECONDS)

    def _in_force(self, name: str) -> bool:
        document = self._store.get(name)
        if document is None:
            return False
        verdict = read_route(document, self._place).verdict
        if verdict.refused:
            raise Unavailable(
                f"The gateway refuses the probe's route: {verdict.refused}", fix="See what it names."
            )
        return verdict.in_force

    def _until_answered(self) -> None:
        def answers() -> bool:
            try:
                return bool(self._ask(self._place.host(PROBE_ENDPOINT), ""))
            except HeadgateError:
                return False

        self._until("the gateway answers for the probe's route", answers)

    def _until(self, what: str, check: Callable[[], bool]) -> None:
        waited = 0.0
        while not check():
            if waited >= self._patience_seconds:
                raise Unavailable(f"Waited {waited:g} s in vain until {what}.", fix="See the gateway's log.")
            self._sleep(0.25)
            waited += 0.25

    def _count(self, ask: Ask, number: int, forced: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for _ in range(number):
            variant = ask(self._place.host(PROBE_ENDPOINT), forced)
            found[variant] = found.get(variant, 0) + 1
        return found
