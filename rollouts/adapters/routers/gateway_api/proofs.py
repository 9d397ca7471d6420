"""Whether a route that was written is served. The gateway's word comes first and is not enough. Then a proxy must be
seen to serve it, and all that are counted must have endpoints for whom they are to send more to."""

from __future__ import annotations

from dataclasses import dataclass

from controlplane.kernel.clock import Clock
from controlplane.kernel.errors import Unavailable
from rollouts.adapters.routers.gateway_api.counted import CountedRoute
from rollouts.adapters.routers.gateway_api.endpoints import AskEndpoints, EndpointQuestions
from rollouts.adapters.routers.gateway_api.objects import GatewayPlace
from rollouts.adapters.routers.gateway_api.questions import AskServed, RouteQuestions
from rollouts.adapters.routers.gateway_api.reading import RouteRead
from rollouts.adapters.routers.gateway_api.references import route_name
from rollouts.ports import Route

NOT_SERVED = "route-not-served"  # the code of what is raised then
NO_ENDPOINTS = "route-without-endpoints"
USUAL_SECONDS = 15.0  # that a proxy may take to serve what its gateway took, before anybody is told
ROUNDED_SECONDS = 0.5  # by which the note of a write may be earlier than the write


@dataclass(frozen=True, slots=True)
class Lack:
    """What a route lacks until it counts as served: nothing, where there are no words.

    of_endpoints   a proxy serves it, and it is not known of all of them that they have endpoints
    seen           it is known that one of them has none
    """

    words: str = ""
    of_endpoints: bool = False
    seen: bool = False


class RouteProofs:
    """See the module.

    served      asks a variant through the gateway (`GatewayUser.served`)
    endpoints   asks who counts what the gateway does (`PrometheusEndpoints.lacking`); None for a gateway that does not
                count its endpoints: a forced request is the only proof then
    """

    def __init__(
        self, place: GatewayPlace, clock: Clock, served: AskServed, endpoints: AskEndpoints | None
    ) -> None:
        self._place = place
        self._clock = clock
        self._questions = RouteQuestions(served)
        self._endpoints = None if endpoints is None else EndpointQuestions(endpoints, clock)

    def lack(self, route: Route, found: RouteRead) -> Lack:
        """What the route lacks as it was found. Waits a moment at most."""
        if not found.verdict.in_force:
            return Lack(found.verdict.waits_for or found.verdict.refused)
        shares = {name: share for name, share in route.shares.items() if share}
        first = sorted(shares, key=lambda name: (-shares[name], name))
        rest = sorted({backend.variant for backend in route.backends} - set(first))
        unseen = self._questions.unproven(
            self._place.host(route.endpoint),
            found.revision,
            every=sorted(found.note.coming),
            some=[*first, *rest],
        )
        return Lack(unseen) if unseen else self._of_endpoints(found)

    def say_late(self, found: RouteRead, lack: Lack) -> None:
        """Raises Unavailable when the route was written long enough ago, the gateways have taken it, and it is not seen
        to be served."""
        waited = self._clock.now().timestamp() - found.note.at_time
        if not lack.words or not found.verdict.in_force or waited < USUAL_SECONDS:
            return
        shown = f"httproute {self._place.namespace}/{route_name(found.endpoint)}"
        written = f"{shown} was written {waited:.0f} s ago"
        if lack.of_endpoints:
            raise Unavailable(
                f"{written} and a proxy serves it, but not all are known to have endpoints for who gets a share by it:"
                f" {lack.words}.",
                fix="Nobody gets a first share until they have. A proxy usually gets them within seconds; see of one"
                " that does not whether it reaches its gateway's controller, and restart it.",
                code=NO_ENDPOINTS,
            )
        raise Unavailable(
            f"{written} and its gateways say that they have it, but no proxy is seen to serve it: {lack.words}.",
            fix=f"See that requests from here reach {self._place.host(found.endpoint)} by the gateway. Until then the"
            " split before counts.",
            code=NOT_SERVED,
        )

    def _of_endpoints(self, found: RouteRead) -> Lack:
        """Of those who have no share yet in what is in force and get one by this route, or on the way from it."""
        if self._endpoints is None:
            return Lack()
        beginners = found.note.coming if found.note.before.shares else frozenset(found.drawn.values())
        places = {place: variant for place, variant in found.drawn.items() if variant in beginners}
        if not places:
            return Lack()
        asked = CountedRoute(
            route=route_name(found.endpoint),
            namespace=self._place.namespace,
            places=places,
            services={},
            since=self._written(found),
        )
        said = self._endpoints.lack(asked, found.revision, seen=found.lacked == found.revision)
        return Lack(said.words, of_endpoints=True, seen=said.seen)

    def _written(self, found: RouteRead) -> float:
        """When the route was written at the latest; 0 where our clock was wrong then, and nobody knows."""
        at = found.note.at_time + ROUNDED_SECONDS
        return at if at <= self._clock.now().timestamp() + 2 * ROUNDED_SECONDS else 0.0
