"""A TrafficRouter of the Gateway API: it writes HTTPRoutes and reads what the gateways say of them.

- `apply` is done when the API server took the route. Every write names the resource version that it was decided on, so
  a writer that did not see the newest route changes nothing, whatever its clock or its lease believes.
- A generation is the route's `metadata.generation`, which the API server counts. What it will be is noted in the same
  write; a generation that grew without us is the work of another hand.
- A change by another hand is what is in force, and `observe` tells it as that. It may be written over, once: whoever
  changes the route again within `TRUCE_SECONDS` is another owner, and with an owner nobody fights.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from controlplane.kernel.clock import Clock
from controlplane.kernel.errors import InvalidInput, Rejected, StaleWriter, Unavailable
from controlplane.kernel.foreign import ODD_ANSWER, words_of
from rollouts.adapters.routers.gateway_api.api import RouteMoved, RouteStore
from rollouts.adapters.routers.gateway_api.counted import CountedRoute
from rollouts.adapters.routers.gateway_api.objects import GatewayPlace, arms_order, document_of, spec_of
from rollouts.adapters.routers.gateway_api.reading import (
    RouteRead,
    SplitRead,
    covers,
    is_ours,
    read_route,
    written_note,
)
from rollouts.adapters.routers.gateway_api.references import (
    OVERRULED,
    PLACED,
    REFUSED,
    SINCE,
    TOKEN,
    WRITTEN,
    route_name,
)
from rollouts.domain.capabilities import Capability
from rollouts.ports import ObservedRoute, Route

TRUCE_SECONDS = 600.0
TRIES = 4  # of a write that meets others

log = logging.getLogger(__name__)


class GatewayRouter:
    """See the module.

    store  the API server
    place  where the routes are, and how they are written
    can    what the gateway was probed to do (see `probes`)
    """

    def __init__(
        self, store: RouteStore, place: GatewayPlace, clock: Clock, can: Callable[[], frozenset[Capability]]
    ) -> None:
        self._store = store
        self._place = place
        self._clock = clock
        self._can = can
        self._places: dict[str, tuple[int, float]] = {}  # see `_counts_since`

    # --- TrafficRouter -----------------------------------------------------------------------------

    def apply(self, route: Route, *, token: int) -> int:
        """See the port. Raises Rejected, too, when another owner of the route changes it again and again."""
        wanted = spec_of(route, self._place)
        return self._trying(route.endpoint, lambda found: self._write(route, wanted, found, token))

    def claim(self, endpoint: str, *, token: int) -> int:
        """See the port. Of an endpoint without a route nothing is remembered: there is nobody to shut out."""

        def once(found: RouteRead | None) -> int:
            if found is None or found.token >= token:
                return max(token, found.token if found else token)
            self._store.write(
                _with_notes(found.document, {TOKEN: str(token)}), resource_version=found.resource_version
            )
            return token

        return self._trying(endpoint, once)

    def observe(self, endpoint: str) -> ObservedRoute | None:
        """See the port."""
        # All of them are at hand where the store watches; what is not among them may be odd, or somebody else's.
        found = self._all().get(endpoint) or self._read(endpoint)
        return None if found is None else _observed(found, self._store.ready_services())

    def observe_all(self) -> Mapping[str, ObservedRoute]:
        """See the port."""
        ready = self._store.ready_services()
        return {endpoint: _observed(one, ready) for endpoint, one in self._all().items()}

    def capabilities(self) -> frozenset[Capability]:
        return self._can()

    # --- for whoever reads counters ----------------------------------------------------------------

    def counted(self) -> Mapping[str, CountedRoute]:
        """How a gateway's counters name the arms of each endpoint. One is left out while that is not certain: its
        gateways do not have these places yet, or somebody else changed the route."""
        found: dict[str, CountedRoute] = {}
        for endpoint, one in self._all().items():
            since = self._counts_since(one)
            if since is not None and not one.by_another_hand:
                found[endpoint] = CountedRoute(
                    route=route_name(endpoint),
                    namespace=self._place.namespace,
                    places=one.places,
                    services={key.rpartition("/")[2]: variant for key, variant in one.services.items()},
                    since=since,
                )
        return found

    def _counts_since(self, found: RouteRead) -> float | None:
        """From when on the gateways count by the route's places; None while they do not. A gateway may take a route
        long after it was accepted: who saw it wait counts from when that was over."""
        placed, at = self._places.get(found.endpoint, (0, 0.0))
        if found.waits_for_places:
            self._places[found.endpoint] = (found.placed, 0.0)
            return None
        if placed != found.placed:
            return found.since
        at = at or self._now()
        self._places[found.endpoint] = (placed, at)
        return max(found.since, at)

    # --- reading -----------------------------------------------------------------------------------

    def _read(self, endpoint: str) -> RouteRead | None:
        """Raises Unavailable for a route that cannot be understood, and Rejected for one that is not ours."""
        document = self._store.get(route_name(endpoint))
        if document is None:
            return None
        try:
            found = read_route(document, self._place)
            if is_ours(document, self._place) and found.endpoint == endpoint:
                return found
        except InvalidInput as error:
            if error.code != ODD_ANSWER:
                raise
            raise Unavailable(error.message, fix=f"Look at it: {self._shown(endpoint)}.") from error
        raise Rejected(
            f"{self._shown(endpoint)} belongs to somebody else.",
            fix="Rename it, or give the endpoint another name. Headgate changes only what it wrote.",
            extra={"words": "the route belongs to somebody else"},
        )

    def _all(self) -> Mapping[str, RouteRead]:
        """Every route of ours that can be understood, by endpoint."""
        found: dict[str, RouteRead] = {}
        for document in self._store.list():
            try:
                one = read_route(document, self._place)
                named = document["metadata"]["name"] == route_name(one.endpoint)  # a copy has another name
                if one.endpoint and named and is_ours(document, self._place):
                    found[one.endpoint] = one
            except InvalidInput as error:
                if error.code != ODD_ANSWER:
                    raise
                log.warning("router.route_odd %s", error.message)
        return found

    def _shown(self, endpoint: str) -> str:
        return f"httproute {self._place.namespace}/{route_name(endpoint)}"

    # --- writing -----------------------------------------------------------------------------------

    def _trying(self, endpoint: str, write: Callable[[RouteRead | None], int]) -> int:
        """Reads and writes until nobody comes between."""
        for _ in range(TRIES):
            try:
                return write(self._read(endpoint))
            except RouteMoved:
                continue
        raise Unavailable(
            f"{self._shown(endpoint)} was changed by others {TRIES} times while it was to be written.",
            fix="Try again; see who else writes it.",
        )

    def _write(self, route: Route, wanted: Mapping[str, Any], found: RouteRead | None, token: int) -> int:
        """Writes the route on what was found, unless it is there; returns its generation."""
        if found is not None and token < found.token:
            raise StaleWriter(
                f"Token {token} is older than {found.token}, the newest that wrote the route of {route.endpoint}.",
                fix="Another worker took over; nothing needs to be done.",
                extra={"newest": found.token},
            )
        now = self._now()
        if found is not None and covers(found.document.get("spec"), wanted, more=not found.by_another_hand):
            if token == found.token and not found.refused and not found.by_another_hand:
                return found.generation
            notes = {TOKEN: str(token), REFUSED: ""}
            if found.by_another_hand:  # the backends may have stood elsewhere meanwhile
                notes |= {SINCE: f"{now:.3f}", PLACED: str(found.generation)}
            return self._noted(route, _with_notes(found.document, notes), found, found.before)
        overruled = self._overrule(found, now) if found is not None and found.by_another_hand else ""
        stand_as_before = found is not None and arms_order(found.document.get("spec", {})) == arms_order(
            wanted
        )
        document = document_of(
            route,
            self._place,
            revision=1 if found is None else found.revision + 1,
            token=token,
            since=found.since if found is not None and stand_as_before else now,
        )
        generation = 1 if found is None else found.generation + 1
        before = SplitRead() if found is None else found.in_force
        noted = written_note(replace(_split_of(route), generation=generation), before)
        placed = found.placed if found is not None and stand_as_before else generation
        if found is not None:
            document = {**document, "metadata": _metadata_over(found.document, document)}
        notes = {WRITTEN: noted, OVERRULED: overruled, REFUSED: "", PLACED: str(placed)}
        try:
            made = self._put(_with_notes(document, notes), found)
        except Rejected as refusal:
            self._note_refusal(found, refusal)
            raise
        if made.generation == generation:
            return generation
        # It stood there already, but for what this API server fills in by itself.
        return self._noted(route, made.document, made, before)

    def _noted(self, route: Route, document: Mapping[str, Any], found: RouteRead, before: SplitRead) -> int:
        """Notes that the route stands there as it was found, and returns its generation."""
        noted = written_note(replace(_split_of(route), generation=found.generation), before)
        return self._put(_with_notes(document, {WRITTEN: noted}), found).generation

    def _put(self, document: Mapping[str, Any], found: RouteRead | None) -> RouteRead:
        """Writes it in place of what was found."""
        made = self._store.write(document, resource_version=found.resource_version if found else "")
        return read_route(made, self._place)

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _overrule(self, found: RouteRead, now: float) -> str:
        """The note that a change of another hand is written over. Raises Rejected when it was its turn before."""
        owner = found.owner or "somebody"
        last, at = found.overruled
        if last == owner and 0 <= now - at < TRUCE_SECONDS:  # a later moment is of a clock that was wrong
            words = f"{owner} changes the route again and again"
            raise Rejected(
                f"{self._shown(found.endpoint)} has another owner: {words}.",
                fix=f"Have one of the two write it: take the route out of what {owner} manages, or cancel the rollout.",
                extra={"words": words},
            )
        log.warning("router.overruled endpoint=%s owner=%s", found.endpoint, owner)
        return f"{owner} {now:.3f}"

    def _note_refusal(self, found: RouteRead | None, refusal: Rejected) -> None:
        """Leaves the refusal's words at the route that stays in force. Who came between has more to say."""
        if found is None:
            return
        words = words_of(str(refusal.extra.get("words", refusal.message)))
        try:
            self._store.write(
                _with_notes(found.document, {REFUSED: words}), resource_version=found.resource_version
            )
        except (RouteMoved, Unavailable) as error:
            log.warning("router.refusal_not_noted endpoint=%s %s", found.endpoint, error)


def _split_of(route: Route) -> SplitRead:
    shares = {name: share for name, share in route.shares.items() if share}
    return SplitRead(shares, frozenset(backend.variant for backend in route.backends))


def _with_notes(document: Mapping[str, Any], notes: Mapping[str, str]) -> dict[str, Any]:
    """The document without its status, and with these annotations; an empty one is taken off."""
    metadata = dict(document["metadata"])
    every = {**metadata.get("annotations", {}), **notes}
    metadata["annotations"] = {name: value for name, value in every.items() if value or name not in notes}
    return {**{name: value for name, value in document.items() if name != "status"}, "metadata": metadata}


def _metadata_over(found: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    """Our metadata over what others left there: their labels, annotations and finalizers stay."""
    there, own = found["metadata"], ours["metadata"]
    return {
        **there,
        "labels": {**there.get("labels", {}), **own["labels"]},
        "annotations": {**there.get("annotations", {}), **own["annotations"]},
    }


def _observed(found: RouteRead, ready: frozenset[str]) -> ObservedRoute:
    in_force = found.in_force
    return ObservedRoute(
        endpoint=found.endpoint,
        shares=in_force.shares,
        healthy=frozenset(variant for key, variant in found.services.items() if key in ready),
        named=in_force.named,
        generation=in_force.generation,
        accepted=found.generation,
        rejected=found.verdict.refused or found.refused,
    )
