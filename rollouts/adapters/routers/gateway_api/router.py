"""A TrafficRouter of the Gateway API: it writes HTTPRoutes and reads what the gateways say of them.

- `apply` is done when the API server took the route. Every write names the resource version that it was decided on, so
  a writer that did not see the newest route changes nothing, whatever its clock or its lease believes.
- A split may take several writes (see `steps`). `apply` makes the first, and each time that it is asked again the next
  one that may be made. Between two of them a proxy must be seen to serve the first.
- A proxy is seen to serve a route when it sends a request that is forced to a variant to that variant, by the route's
  own revision. The gateway's word comes first and is not enough: proxies come back late to a controller that was away.
- The API server counts a route's specs in `metadata.generation`. What it will be is noted in the same write; one that
  grew without us is the work of another hand.
- A change by another hand is what is in force, and `observe` tells it as that. It may be written over, once: whoever
  changes the route again within `TRUCE_SECONDS` is another owner, and with an owner nobody fights.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from controlplane.kernel.clock import Clock
from controlplane.kernel.digests import digest_of
from controlplane.kernel.errors import InvalidInput, Rejected, StaleWriter, Unavailable
from controlplane.kernel.foreign import ODD_ANSWER, words_of
from rollouts.adapters.clusters.kubernetes.tokens import TokenBook
from rollouts.adapters.routers.gateway_api.api import RouteMoved, RouteStore
from rollouts.adapters.routers.gateway_api.counted import CountedRoute
from rollouts.adapters.routers.gateway_api.endpoints import AskEndpoints
from rollouts.adapters.routers.gateway_api.notes import (
    SplitRead,
    WriteNote,
    metadata_over,
    places_note,
    with_notes,
)
from rollouts.adapters.routers.gateway_api.objects import (
    GatewayPlace,
    RouteLayout,
    arms_order,
    document_of,
    placed,
    spec_of,
)
from rollouts.adapters.routers.gateway_api.proofs import Lack, RouteProofs
from rollouts.adapters.routers.gateway_api.questions import AskServed
from rollouts.adapters.routers.gateway_api.reading import RouteRead, covers, is_ours, read_route
from rollouts.adapters.routers.gateway_api.references import (
    LACKED,
    OVERRULED,
    PLACED,
    PLACES,
    REFUSED,
    SERVED,
    SINCE,
    TOKEN,
    WRITTEN,
    route_name,
)
from rollouts.adapters.routers.gateway_api.steps import SplitStep, next_step, steps_left
from rollouts.domain.capabilities import Capability
from rollouts.ports import ObservedRoute, Route

TRUCE_SECONDS = 600.0
TRIES = 4  # of a write that meets others
MOST_WRITES = 5  # of one `apply`: three steps where a gateway takes each at once, and what is noted of them

T = TypeVar("T")

log = logging.getLogger(__name__)


class GatewayRouter:
    """See the module.

    store      the API server
    place      where the routes are, and how they are written
    tokens     where loops tell theirs; a route keeps that of its last writer
    can        what the gateway was probed to do (see `probes`)
    served     asks a variant through the gateway (`GatewayUser.served`)
    endpoints  asks which proxies have endpoints, where the gateway counts them (see `proofs`)
    """

    def __init__(
        self,
        store: RouteStore,
        place: GatewayPlace,
        clock: Clock,
        can: Callable[[], frozenset[Capability]],
        served: AskServed,
        tokens: TokenBook,
        *,
        endpoints: AskEndpoints | None = None,
    ) -> None:
        self._store = store
        self._tokens = tokens
        self._place = place
        self._clock = clock
        self._can = can
        self._proofs = RouteProofs(place, clock, served, endpoints)
        self._places: dict[str, tuple[int, float]] = {}  # see `_counts_since`
        self._read_routes: dict[str, tuple[Mapping[str, Any], RouteRead | None]] = {}  # see `_all`

    # --- TrafficRouter -----------------------------------------------------------------------------

    def apply(self, route: Route, *, token: int) -> int:
        """See the port. Raises Rejected, too, when another owner of the route changes it again and again, and
        Unavailable when the gateways have had it for a while and it is not seen to be served. Waits two moments at most
        for that."""
        target = digest_of(spec_of(route, self._place))
        for _ in range(MOST_WRITES):
            generation, made = self._trying(
                route.endpoint, lambda found: self._write(route, target, found, token)
            )
            if made is None or not made.verdict.in_force:
                break  # there is nothing more to do yet
        return generation

    def claim(self, endpoint: str, *, token: int) -> int:
        """See the port. Writes no route: with each write a gateway would look at all of its routes."""
        newest = self._tokens.tell(endpoint, token)
        document = self._store.at_hand(route_name(endpoint))
        found = None if document is None else self._understood(document)
        return max(newest, 0 if found is None else found.token)

    def observe(self, endpoint: str) -> ObservedRoute | None:
        """See the port. Asks nobody where the store has all routes at hand."""
        document = self._store.at_hand(route_name(endpoint))
        found = None if document is None else self._ours(endpoint, document)
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
        return None if document is None else self._ours(endpoint, document)

    def _ours(self, endpoint: str, document: Mapping[str, Any]) -> RouteRead:
        """The route of this endpoint. Raises as `_read` does."""
        try:
            if is_ours(document, self._place):
                found = read_route(document, self._place)
                if found.endpoint == endpoint:
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
        """Every route of ours that can be understood, by endpoint. One that did not change is not read again."""
        before, read = self._read_routes, {}
        for document in self._store.list():
            name = str(document["metadata"]["name"])
            kept = before.get(name)
            known = kept is not None and kept[0] is document
            read[name] = kept if kept is not None and known else (document, self._understood(document))
        self._read_routes = read
        return {one.endpoint: one for _, one in read.values() if one is not None}

    def _understood(self, document: Mapping[str, Any]) -> RouteRead | None:
        """The route of some endpoint of ours; None for one of somebody else, and for one that is odd."""
        try:
            if is_ours(document, self._place):
                found = read_route(document, self._place)
                named = document["metadata"]["name"] == route_name(found.endpoint)  # a copy has another name
                return found if found.endpoint and named else None
        except InvalidInput as error:
            if error.code != ODD_ANSWER:
                raise
            log.warning("router.route_odd %s", error.message)
        return None

    def _shown(self, endpoint: str) -> str:
        return f"httproute {self._place.namespace}/{route_name(endpoint)}"

    # --- writing -----------------------------------------------------------------------------------

    def _trying(self, endpoint: str, write: Callable[[RouteRead | None], T]) -> T:
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

    def _write(
        self, route: Route, target: str, found: RouteRead | None, token: int
    ) -> tuple[int, RouteRead | None]:
        """Makes what can be made of the route now; returns its generation, and the route where another spec was
        written. `target`: of the whole route."""
        newest = max(self._tokens.tell(route.endpoint, token), found.token if found is not None else 0)
        if token < newest:
            raise StaleWriter(
                f"Token {token} is older than {newest}, the newest that works for the route of {route.endpoint}.",
                fix="Another worker took over; nothing needs to be done.",
                extra={"newest": newest},
            )
        served = False
        if found is not None and not found.by_another_hand and found.note.target == target:
            lack = Lack() if found.is_served else self._proofs.lack(route, found)
            served = not lack.words
            if lack.words or found.note.last:
                self._note(found, {TOKEN: str(token), REFUSED: "", **_proven(found, lack)})
                self._proofs.say_late(found, lack)
                return found.accepted, None
        elif found is not None:
            served = found.by_another_hand or found.is_served
        return self._make(route, target, found, token, served=served)

    def _make(
        self, route: Route, target: str, found: RouteRead | None, token: int, *, served: bool
    ) -> tuple[int, RouteRead | None]:
        """Writes the next step, unless its spec is there. `served`: so is what was found."""
        now = self._now()
        step, left = self._step(route, found, served=served)
        places = placed(found.standing if found else (), [backend.variant for backend in route.backends])
        layout = RouteLayout(places, step.weights(), found.revision if found else 0)
        spec = spec_of(route, self._place, layout=layout)
        if found is not None and covers(found.document.get("spec"), spec, more=not found.by_another_hand):
            note = self._note_of(route, target, found, step, left, at=found.generation)
            notes = {TOKEN: str(token), REFUSED: "", WRITTEN: note.text(), PLACES: places_note(places)}
            if found.by_another_hand:  # the backends may have stood elsewhere meanwhile
                notes |= {SINCE: f"{now:.3f}", PLACED: str(found.generation)}
            self._note(found, notes)
            return note.wanted.generation, None
        note = self._note_of(route, target, found, step, left, at=found.generation + 1 if found else 1)
        overruled = self._overruled(found, target, now)
        stand_as_before = found is not None and arms_order(found.document.get("spec", {})) == arms_order(spec)
        document = document_of(
            route,
            self._place,
            token=token,
            since=found.since if found is not None and stand_as_before else now,
            layout=replace(layout, revision=layout.revision + 1),
        )
        stand_since = found.placed if found is not None and stand_as_before else note.at
        if found is not None:
            document = {**document, "metadata": metadata_over(found.document, document)}
        notes = {WRITTEN: note.text(), OVERRULED: overruled, REFUSED: "", PLACED: str(stand_since)}
        try:
            made = self._put(with_notes(document, notes), found)
        except Rejected as refusal:
            self._note_refusal(found, refusal)
            raise
        if made.generation != note.at:
            # It stood there already, but for what this API server fills in by itself.
            corrected = {WRITTEN: replace(note, at=made.generation).text()}
            made = self._put(with_notes(made.document, corrected), made)
        return note.wanted.generation, made

    def _step(self, route: Route, found: RouteRead | None, *, served: bool) -> tuple[SplitStep, int]:
        """The next split to write, and how many are left behind it."""
        target = _shares(route)
        if found is None:
            return SplitStep(target), 0
        now = found.step.among({backend.variant for backend in route.backends})
        step = next_step(now, target, served=served)
        return step, steps_left(step, target)

    def _note_of(
        self, route: Route, target: str, found: RouteRead | None, step: SplitStep, left: int, *, at: int
    ) -> WriteNote:
        """Of the write by which this step of what was found stands there as the spec of generation `at`."""
        newest = at + left
        if found is not None and not found.by_another_hand:
            # Whoever waits for the one before must not take this one for it.
            newest = found.accepted if found.note.target == target else max(newest, found.accepted + 1)
        return WriteNote(
            wanted=SplitRead(_shares(route), frozenset(one.variant for one in route.backends), newest),
            target=target,
            at=at,
            at_time=self._now(),
            last=not left,
            coming=step.coming,
            before=SplitRead() if found is None else found.in_force,
        )

    def _note(self, found: RouteRead, notes: Mapping[str, str]) -> None:
        """Puts these notes on the route as it was found, where they say anything new."""
        there = found.document["metadata"].get("annotations", {})
        if any(there.get(name, "") != value for name, value in notes.items()):
            self._put(with_notes(found.document, notes), found)

    def _put(self, document: Mapping[str, Any], found: RouteRead | None) -> RouteRead:
        """Writes it in place of what was found."""
        made = self._store.write(document, resource_version=found.resource_version if found else "")
        return read_route(made, self._place)

    def _now(self) -> float:
        return self._clock.now().timestamp()

    def _overruled(self, found: RouteRead | None, target: str, now: float) -> str:
        """The note of whose change was written over on the way to this route; "" for nobody's. Raises Rejected."""
        if found is None:
            return ""
        if found.by_another_hand:
            return self._overrule(found, now)
        by, at = found.overruled
        return f"{by} {at:.3f}" if by and found.note.target == target else ""

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
                with_notes(found.document, {REFUSED: words}), resource_version=found.resource_version
            )
        except (RouteMoved, Unavailable) as error:
            log.warning("router.refusal_not_noted endpoint=%s %s", found.endpoint, error)


def _shares(route: Route) -> dict[str, int]:
    return {name: share for name, share in route.shares.items() if share}


def _proven(found: RouteRead, lack: Lack) -> dict[str, str]:
    """What was seen of the route, for whoever looks next."""
    if not lack.words:
        return {SERVED: str(found.revision)}
    return {LACKED: str(found.revision)} if lack.seen else {}


def _observed(found: RouteRead, ready: frozenset[str]) -> ObservedRoute:
    in_force = found.in_force
    return ObservedRoute(
        endpoint=found.endpoint,
        shares=in_force.shares,
        healthy=frozenset(variant for key, variant in found.services.items() if key in ready),
        named=in_force.named,
        generation=in_force.generation,
        accepted=found.accepted,
        rejected=found.verdict.refused or found.refused,
    )
