"""Probes what a cluster's gateway really does, once: gateways say Accepted of what they then do otherwise.

A route of its own over two backends that answer is put in force, asked, and read. What was not declared and works is
told, too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from controlplane.kernel.errors import HeadgateError, Rejected, Unavailable
from rollouts.adapters.clusters.kubernetes.errors import Terminal
from rollouts.adapters.routers.gateway_api.api import RouteStore
from rollouts.adapters.routers.gateway_api.conditions import RouteVerdict
from rollouts.adapters.routers.gateway_api.objects import GatewayPlace, RouteMirror, document_of
from rollouts.adapters.routers.gateway_api.reading import is_ours, read_route
from rollouts.adapters.routers.gateway_api.references import route_name
from rollouts.domain.trials import GatewayTrait, TrialFinding
from rollouts.ports import FULL_SHARE_BP, Backend, Route

DRAWN, FORCED, MIRRORED = 200, 20, 400  # requests of each probe
PART = 0.25  # that is mirrored
SIGMAS = 6.0  # of binomial noise: wrong once in 500 million probes
STEP_SECONDS = 0.25  # between two looks
REFUSED_SECONDS = 10.0  # that a gateway has to say no, until that is its word
SETTLE_SECONDS = 2.0  # from a gateway's word until all of its processes do it

Ask = Callable[[str, str], str]  # (host, forced variant or "") -> the variant that answers, by its own word


class RouteRefused(Unavailable):
    """The gateway looked at the probe's route, and does not serve it."""


def probe_endpoint(run: str) -> str:
    """What the route of one probe is for. No endpoint of users has a dot in its name, and no two probes have one
    `run`."""
    return f"headgate.probe.{run}"


def zero_finding(zero: str, answered: Mapping[str, int]) -> TrialFinding:
    """Of requests that were drawn while `zero` had weight 0."""
    number = sum(answered.values())
    got = answered.get(zero, 0)
    return TrialFinding(
        GatewayTrait.KEEPS_ZERO,
        number > 0 and got == 0,
        f"a backend with weight 0 got {got} of {number} requests",
    )


def forced_finding(forced: str, answered: Mapping[str, int]) -> TrialFinding:
    """Of requests that were forced to `forced`, which has weight 0."""
    number = sum(answered.values())
    got = answered.get(forced, 0)
    return TrialFinding(
        GatewayTrait.HEADER_WINS,
        number > 0 and got == number,
        f"{got} of {number} forced requests were answered by the variant that they name",
    )


def mirror_finding(sent: int, mirrored: int, part: float) -> TrialFinding:
    """Of `sent` requests, of which `part` was to be mirrored."""
    noise = SIGMAS * math.sqrt(sent * part * (1 - part))
    return TrialFinding(
        GatewayTrait.MIRRORS_A_PART,
        sent > 0 and abs(mirrored - sent * part) <= noise,
        f"{mirrored} of {sent} requests were mirrored, where {sent * part:.0f} were to be",
    )


class GatewayProbe:
    """Probes one gateway.

    endpoint   that the route is for, see `probe_endpoint`
    backends   of two variants that answer now
    ask        a request for the list of models; raises Unavailable
    infer      sends an inference and reads nothing of its answer but who gave it, as `ask`
    received   how many inferences this variant's own engine has received so far
    owned      gives the route an owner, with whom it goes
    sleep      waits so many seconds
    """

    def __init__(
        self,
        store: RouteStore,
        place: GatewayPlace,
        endpoint: str,
        backends: tuple[Backend, Backend],
        *,
        ask: Ask,
        infer: Ask,
        received: Callable[[str], int],
        owned: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda document: document,
        sleep: Callable[[float], None] = time.sleep,
        patience_seconds: float = 60.0,
    ) -> None:
        self._store = store
        self._place = replace(place, keeps_zero=True)
        self._endpoint = endpoint
        self._host = place.host(endpoint)
        self._first, self._second = (backend.variant for backend in backends)
        self._backends = backends
        self._ask = ask
        self._infer = infer
        self._received = received
        self._owned = owned
        self._sleep = sleep
        self._patience_seconds = patience_seconds

    def run(self) -> tuple[TrialFinding, ...]:
        """What was found. The route stays, with no share but the first's.

        Raises Unavailable when the gateway does not put the route in force, or nobody answers; Rejected when somebody
        else has a route of that name, or the API server refuses it.
        """
        self._publish(None)
        for ask, forced in ((self._ask, ""), (self._ask, self._second), (self._infer, "")):
            self._until_answered(ask, forced)
        return (
            zero_finding(self._second, self._count(self._infer, DRAWN, "")),
            forced_finding(self._second, self._count(self._ask, FORCED, self._second)),
            self._mirrored(),
        )

    def _mirrored(self) -> TrialFinding:
        """Of the mirror: a gateway that refuses it is one that cannot do it."""
        try:
            self._publish(RouteMirror(self._backends[1], round(PART * FULL_SHARE_BP)))
        except RouteRefused as error:
            return TrialFinding(
                GatewayTrait.MIRRORS_A_PART, False, f"it takes no such route: {error.message}"
            )
        before = self._received(self._second)
        sent = sum(self._count(self._infer, MIRRORED, "").values())
        self._sleep(SETTLE_SECONDS)  # nobody waits for a mirrored request
        mirrored = self._received(self._second) - before
        self._publish(None)
        return mirror_finding(sent, mirrored, PART)

    def _publish(self, mirror: RouteMirror | None) -> None:
        """Puts the probe's route in force."""
        route = Route(self._endpoint, {self._first: FULL_SHARE_BP}, self._backends, self._first)
        name = route_name(self._endpoint)
        there = self._store.get(name)
        if there is not None and not is_ours(there, self._place):
            raise Rejected(
                f"httproute {self._place.namespace}/{name} belongs to somebody else.",
                fix="Rename it. Headgate changes only what it wrote.",
            )
        document: dict[str, Any] = document_of(route, self._place, token=0, since=0.0, mirror=mirror)
        version = str(there["metadata"]["resourceVersion"]) if there is not None else ""
        try:
            self._store.write(self._owned(document), resource_version=version)
        except Rejected as error:
            if error.code == Terminal.code:  # it is what was asked for, and neither who asked nor when
                raise RouteRefused(error.message, fix=error.fix) from error
            raise
        self._until_in_force(name)
        self._sleep(SETTLE_SECONDS)

    def _until_in_force(self, name: str) -> None:
        """A gateway that has not seen the backends yet says at first that there are none."""
        waited = refused_for = 0.0
        while True:
            document = self._store.get(name)
            verdict = RouteVerdict() if document is None else read_route(document, self._place).verdict
            if verdict.in_force:
                return
            refused_for = refused_for + STEP_SECONDS if verdict.refused else 0.0
            if refused_for >= min(REFUSED_SECONDS, self._patience_seconds):
                raise RouteRefused(
                    f"The gateway refuses the probe's route: {verdict.refused}", fix="See what it names."
                )
            self._wait(waited, "the gateway has the probe's route in force")
            waited += STEP_SECONDS

    def _until_answered(self, ask: Ask, forced: str) -> None:
        """Whoever answers: where the header does not win, that is not the one who was forced."""
        waited = 0.0
        while True:
            try:
                ask(self._host, forced)
            except HeadgateError as error:
                self._wait(waited, f"the gateway answers for the probe's route: {error.message.rstrip('.')}")
                waited += STEP_SECONDS
            else:
                return

    def _wait(self, waited: float, what: str) -> None:
        if waited >= self._patience_seconds:
            raise Unavailable(f"Waited {waited:g} s in vain until {what}.", fix="See the gateway's log.")
        self._sleep(STEP_SECONDS)

    def _count(self, ask: Ask, number: int, forced: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for _ in range(number):
            variant = ask(self._host, forced)
            found[variant] = found.get(variant, 0) + 1
        return found
