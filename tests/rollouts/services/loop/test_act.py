"""Effects are carried out in order, held up by nobody else's trouble, and written only while the lease is ours; and
what is brought up to date without a decision never moves a share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import Rejected, StaleWriter, Unavailable
from rollouts.domain.engines import WorkloadPhase
from rollouts.domain.lifecycle.effects import AnyEffect, DrainWorkload, EnsureWorkload, SetTraffic
from rollouts.models import Effect, EffectState, Endpoint, FilesState, GlobalStop, Rollout, Workload
from rollouts.ports import FULL_SHARE_BP, OPENAI_API, EngineApi, ObservedRoute, Route, WorkloadStatus
from rollouts.services.loop.act import (
    LONGEST_PAUSE,
    NOT_IN_FORCE,
    ROUTE_FIELDS,
    converge_traffic,
    run_effects,
)
from rollouts.services.loop.leases import Lease, claim_endpoints
from rollouts.services.loop.observe import Observation
from rollouts.services.loop.routing import desired_route, route_json
from rollouts.services.loop.rows import REFUSED
from rollouts.services.loop.situation import split
from rollouts.services.writing import BY_PERSON, add_effects
from tests import factories
from tests.rollouts.worlds import world_in_memory

pytestmark = pytest.mark.django_db
NOW = factories.right_now()
AWAY = Unavailable("It does not answer.")


@dataclass
class Router:
    """Accepts every route and has it in force at once, unless a test says otherwise.

    shows   what it shows instead after a route was accepted
    """

    sent: list[Route] = field(default_factory=list)
    refuses: Exception | None = None
    shows: Callable[[Route], ObservedRoute | None] | None = None

    def apply(self, route: Route, *, token: int) -> int:
        if self.refuses is not None:
            raise self.refuses
        self.sent.append(route)
        return len(self.sent)

    def observe(self, endpoint: str) -> ObservedRoute | None:
        if self.shows is not None:
            return self.shows(self.sent[-1])
        return ObservedRoute(endpoint, self.sent[-1].shares, frozenset(), generation=len(self.sent))


@dataclass
class Engines:
    """A cluster that does what it is asked; `hooks` run in the call for a variant, and may raise."""

    asked: list[str] = field(default_factory=list)
    hooks: dict[str, Callable[[], object]] = field(default_factory=dict)

    def drain(self, variant: str, endpoint: str, *, token: int) -> None:
        self.asked.append(variant)
        self.hooks.get(variant, lambda: None)()

    def fetches_files(self) -> bool:
        return False

    def api(self, engine: str) -> EngineApi:
        return OPENAI_API


class Scene:
    """An endpoint whose version 1 has all traffic; versions 2 and 3 run beside it."""

    def __init__(self) -> None:
        self.endpoint = factories.endpoint(now=NOW)
        self.stable = self.endpoint.stable.name if self.endpoint.stable else ""
        self.second = factories.variant(self.endpoint, 2, now=NOW).name
        self.third = factories.variant(self.endpoint, 3, now=NOW).name
        self.router, self.engines, self.clock = Router(), Engines(), ManualClock(NOW)
        self.world = world_in_memory(self.clock, router=self.router, cluster=self.engines)
        self.lease = self.claim("turn")
        self.ready = {self.stable, self.second, self.third}

    def claim(self, owner: str) -> Lease:
        return claim_endpoints(endpoint_ids=[self.endpoint.pk], owner=owner, now=self.clock.now())[0]

    def taken_over(self) -> None:
        """Another worker takes the endpoint, as when our lease ran out in a long call."""
        Endpoint.objects.update(lease_until=None)
        self.claim("another")

    def asks(self, *effects: AnyEffect, rollout: Rollout | None = None) -> list[Effect]:
        add_effects(endpoint=self.endpoint, rollout=rollout, effects=effects, now=NOW)
        return list(Effect.objects.order_by("-pk")[: len(effects)])[::-1]

    def seen(self, shares: Mapping[str, int] | None = None, *, known: bool = True) -> Observation:
        shown = {self.stable: FULL_SHARE_BP} if shares is None else shares
        return Observation(
            statuses={
                name: WorkloadStatus(name, WorkloadPhase.READY, ready=1, desired=1) for name in self.ready
            },
            route=ObservedRoute(self.endpoint.name, shown, frozenset(self.ready)) if known else None,
            route_known=known,
        )

    def run(self, seen: Observation | None = None) -> int:
        return run_effects(
            endpoint=self.endpoint, lease=self.lease, world=self.world, seen=seen or self.seen(),
            now=self.clock.now(),
        )  # fmt: skip

    def converge(self, seen: Observation) -> None:
        converge_traffic(
            endpoint=self.endpoint, lease=self.lease, world=self.world, seen=seen, now=self.clock.now()
        )

    def canary(self, share_bp: int) -> Rollout:
        """A rollout of version 2, which is to get so much of the traffic."""
        made = factories.rollout_pending(of=self.endpoint, now=NOW)
        self.asks(
            SetTraffic({self.stable: FULL_SHARE_BP - share_bp, self.second: share_bp}, self.stable),
            rollout=made,
        )
        return made


@pytest.fixture
def scene() -> Scene:
    return Scene()


def again(row: Effect) -> Effect:
    row.refresh_from_db()
    return row


def fails(error: Exception) -> Callable[[], object]:
    def raise_it() -> None:
        raise error

    return raise_it


# --- in order, each by itself -----------------------------------------------------------------------------------------


def test_run_effects__several__are_done_in_their_order(scene: Scene) -> None:
    rows = scene.asks(DrainWorkload(scene.third), DrainWorkload(scene.second))
    assert scene.run() == 2
    assert scene.engines.asked == [scene.third, scene.second]
    assert {again(row).state for row in rows} == {EffectState.DONE}


def test_run_effects__one_fails__keeps_its_problem_and_holds_up_only_its_own_kind_and_variant(
    scene: Scene,
) -> None:
    (first,) = scene.asks(DrainWorkload(scene.second))
    later = Effect.objects.create(
        endpoint=scene.endpoint, kind=first.kind, payload=first.payload, created_at=NOW
    )
    (other,) = scene.asks(DrainWorkload(scene.third))
    scene.engines.hooks[scene.second] = fails(AWAY)
    assert scene.run() == 1
    assert again(other).state == EffectState.DONE
    assert (again(first).state, first.problem, first.attempts) == (EffectState.PENDING, str(AWAY), 1)
    assert again(later).attempts == 0
    assert scene.engines.asked == [scene.second, scene.third]


def test_run_effects__fails_again_and_again__waits_longer_each_time_and_never_too_long(scene: Scene) -> None:
    (row,) = scene.asks(DrainWorkload(scene.second))
    scene.engines.hooks[scene.second] = fails(AWAY)
    pauses = []
    for attempt in range(1, 10):
        assert scene.run() == 0
        assert again(row).attempts == attempt
        assert row.not_before is not None
        scene.clock.advance(0.5)
        scene.run()
        assert len(scene.engines.asked) == attempt, "it is not tried within its pause"
        pauses.append((row.not_before - scene.clock.now()).total_seconds() + 0.5)
        scene.clock.advance(pauses[-1])
    assert pauses[:3] == [1.0, 2.0, 4.0]
    assert pauses[-1] == LONGEST_PAUSE[DrainWorkload.kind]


def test_run_effects__lease_was_lost_before__raises_and_asks_nobody(scene: Scene) -> None:
    (row,) = scene.asks(DrainWorkload(scene.second))
    scene.taken_over()
    with pytest.raises(StaleWriter):
        scene.run()
    assert scene.engines.asked == []
    assert again(row).state == EffectState.PENDING


@pytest.mark.parametrize("error", [None, AWAY], ids=["done", "failed"])
def test_run_effects__lease_is_lost_in_the_call__nothing_is_written_of_it(
    scene: Scene, error: Exception | None
) -> None:
    (row,) = scene.asks(DrainWorkload(scene.second))

    def slow() -> None:
        scene.taken_over()
        if error is not None:
            raise error

    scene.engines.hooks[scene.second] = slow
    with pytest.raises(StaleWriter):
        scene.run()
    assert (again(row).state, row.attempts, row.problem) == (EffectState.PENDING, 0, "")


def test_run_effects__superseded_while_another_is_done__is_left_out(scene: Scene) -> None:
    _, second = scene.asks(DrainWorkload(scene.second), DrainWorkload(scene.third))
    scene.engines.hooks[scene.second] = lambda: Effect.objects.filter(pk=second.pk).update(
        state=EffectState.SUPERSEDED
    )
    assert scene.run() == 1
    assert scene.engines.asked == [scene.second]


# --- a split ----------------------------------------------------------------------------------------------------------


def test_split__in_force_as_read_back__is_done_and_counts_as_applied(scene: Scene) -> None:
    scene.canary(500)
    assert scene.run() == 1
    scene.endpoint.refresh_from_db()
    assert scene.endpoint.applied == route_json(scene.router.sent[-1])
    assert scene.endpoint.observed_shares == {scene.stable: 9_500, scene.second: 500}


def test_split__accepted_and_not_in_force__waits_since_it_was_accepted_first(scene: Scene) -> None:
    scene.canary(500)
    scene.router.shows = lambda route: None
    for _ in range(2):
        assert scene.run() == 0
        scene.clock.advance(1)
    row = Effect.objects.get(kind=SetTraffic.kind)
    assert (row.state, row.problem, row.attempts) == (EffectState.PENDING, NOT_IN_FORCE, 0)
    assert Endpoint.objects.get().accepted_at == NOW
    assert Endpoint.objects.get().applied == {}


def test_split__router_shows_another_one__is_a_failure_and_not_applied(scene: Scene) -> None:
    scene.canary(500)
    scene.router.shows = lambda route: ObservedRoute(
        route.endpoint, {scene.stable: FULL_SHARE_BP}, frozenset(), generation=len(scene.router.sent)
    )
    assert scene.run() == 0
    assert "does not show the split" in Effect.objects.get().problem
    assert Endpoint.objects.get().applied == {}


@pytest.mark.parametrize(("error", "refused"), [(Rejected("No such cluster."), True), (AWAY, False)])
def test_split__router_refuses_or_is_away__is_told_apart_and_shown_at_the_endpoint(
    scene: Scene, error: Exception, refused: bool
) -> None:
    scene.canary(500)
    scene.router.refuses = error
    assert scene.run() == 0
    assert Effect.objects.get().payload[REFUSED] is refused
    assert Endpoint.objects.get().router_problem == str(error)


def test_split__more_for_a_candidate_that_is_not_ready__waits(scene: Scene) -> None:
    scene.canary(500)
    scene.ready.discard(scene.second)
    assert scene.run() == 0
    assert Effect.objects.get().problem == f"{scene.second} is not ready"
    assert scene.router.sent == []


def test_split__under_the_global_stop__waits_where_a_candidate_grows_and_not_where_it_gets_less(
    scene: Scene,
) -> None:
    scene.canary(500)
    GlobalStop.objects.create(pk=1, on=True)
    assert scene.run() == 0
    assert Effect.objects.get().problem == "the global stop is on"
    assert scene.run(scene.seen({scene.stable: 5_000, scene.second: 5_000})) == 1


def test_split__a_person_gives_more_to_part_of_the_replicas__is_published(scene: Scene) -> None:
    scene.canary(500)
    part = WorkloadStatus(scene.second, WorkloadPhase.READY, ready=1, desired=3)
    seen = scene.seen()
    seen = Observation({**(seen.statuses or {}), scene.second: part}, seen.route, True)
    assert scene.run(seen) == 0
    Effect.objects.update(payload={BY_PERSON: True})
    assert scene.run(seen) == 1


def test_split__to_a_variant_without_an_address__waits_naming_it(scene: Scene) -> None:
    scene.canary(500)
    Workload.objects.filter(variant__name=scene.second).update(backend={})
    assert scene.run() == 0
    assert Effect.objects.get().problem == f"{scene.second} has no address yet"


# --- a launch and an end ----------------------------------------------------------------------------------------------


def test_drain__while_it_gets_traffic_or_nobody_knows__waits(scene: Scene) -> None:
    (row,) = scene.asks(DrainWorkload(scene.second))
    assert scene.run(scene.seen({scene.stable: 9_999, scene.second: 1})) == 0
    assert again(row).problem == "it still gets traffic"
    assert scene.run(scene.seen(known=False)) == 0
    assert again(row).problem == "the router does not say whether it gets traffic"
    assert scene.engines.asked == []


def test_drain__of_what_is_wanted_again__is_done_and_drains_nothing(scene: Scene) -> None:
    scene.asks(DrainWorkload(scene.second))
    Endpoint.objects.update(desired_shares={scene.stable: 5_000, scene.second: 5_000})
    assert scene.run() == 1
    assert scene.engines.asked == []
    assert Workload.objects.get(variant__name=scene.second).wanted


def test_drain__that_the_route_still_names__leaves_the_route_first(scene: Scene) -> None:
    Endpoint.objects.update(desired_shares={scene.stable: FULL_SHARE_BP, scene.second: 0})
    Endpoint.objects.update(applied={"backends": [{"variant": scene.second}]})
    sent_when_drained: list[list[str]] = []
    scene.engines.hooks[scene.second] = lambda: sent_when_drained.append(
        [backend.variant for backend in scene.router.sent[-1].backends]
    )
    scene.asks(DrainWorkload(scene.second))
    assert scene.run() == 1
    assert sent_when_drained == [[scene.stable, scene.third]]


def test_ensure__of_what_runs__is_done_without_reading_its_files_again(scene: Scene) -> None:
    Workload.objects.filter(variant__name=scene.second).update(files_state=FilesState.WANTED)
    scene.asks(EnsureWorkload(scene.second))
    assert scene.run() == 1
    assert Workload.objects.get(variant__name=scene.second).files_state == FilesState.NONE


# --- brought up to date without a decision ----------------------------------------------------------------------------


def test_converge__router_lost_the_endpoint__gets_the_desired_route(scene: Scene) -> None:
    scene.converge(Observation({}, None, route_known=True))
    assert [dict(route.shares) for route in scene.router.sent] == [{scene.stable: FULL_SHARE_BP}]


def test_converge__router_has_what_was_published__is_left_alone(scene: Scene) -> None:
    scene.converge(Observation({}, None, route_known=True))
    scene.converge(scene.seen())
    assert len(scene.router.sent) == 1


@pytest.mark.parametrize("why", ["a split waits", "the router cannot be read", "no address", "never asked"])
def test_converge__route_is_decided_anew_or_cannot_be_made_or_read__publishes_nothing(
    scene: Scene, why: str
) -> None:
    if why == "a split waits":
        scene.asks(SetTraffic({scene.stable: FULL_SHARE_BP}, scene.stable))
    if why == "no address":
        Workload.objects.filter(variant__name=scene.stable).update(backend={})
    if why == "never asked":
        Endpoint.objects.update(desired_shares={})
    scene.converge(Observation({}, None, route_known=why != "the router cannot be read"))
    assert scene.router.sent == []


def test_converge__router_refuses__is_shown_and_not_raised(scene: Scene) -> None:
    scene.router.refuses = AWAY
    scene.converge(Observation({}, None, route_known=True))
    assert Endpoint.objects.get().router_problem == str(AWAY)


def test_converge__lease_was_lost__raises_and_publishes_nothing(scene: Scene) -> None:
    scene.taken_over()
    with pytest.raises(StaleWriter):
        scene.converge(Observation({}, None, route_known=True))
    assert scene.router.sent == []


def partitions(names: st.SearchStrategy[list[str]]) -> st.SearchStrategy[dict[str, int]]:
    """Shares of these variants that sum to the whole; some of them nothing."""

    def cut(chosen: list[str]) -> st.SearchStrategy[dict[str, int]]:
        cuts = st.lists(
            st.integers(0, FULL_SHARE_BP), min_size=len(chosen) - 1, max_size=len(chosen) - 1
        ).map(sorted)
        return cuts.map(
            lambda at: {
                name: end - start
                for name, start, end in zip(chosen, [0, *at], [*at, FULL_SHARE_BP], strict=True)
            }
        )

    return names.flatmap(cut)


def test_converge__whatever_route_the_router_shows__never_moves_a_share(scene: Scene) -> None:
    """What it publishes has the shares as they were decided; under weights set by hand, those of the hand. What was
    decided stays as it is, whatever the router answers."""
    names = [scene.stable, scene.second, scene.third]
    some = st.lists(st.sampled_from(names), min_size=1, unique=True)
    shown_names = st.lists(st.sampled_from([*names, "of-somebody-else"]), min_size=1, unique=True)
    routes = st.builds(
        ObservedRoute,
        st.just(scene.endpoint.name),
        partitions(shown_names),
        st.frozensets(st.sampled_from(names)),
        st.frozensets(st.sampled_from(names)),
        generation=st.integers(0, 3),
        accepted=st.integers(0, 3),
        rejected=st.sampled_from(["", "it is odd"]),
    )
    published = 0

    @settings(max_examples=60)
    @given(
        desired=partitions(some),
        applied=st.none() | partitions(some),
        as_desired=st.booleans(),
        shown=st.none() | routes,
        answer=st.none() | routes,
        lags=st.booleans(),
        rescue=st.booleans(),
        with_backends=st.sets(st.sampled_from(names), min_size=1),
    )
    def holds(
        desired: dict[str, int],
        applied: dict[str, int] | None,
        as_desired: bool,
        shown: ObservedRoute | None,
        answer: ObservedRoute | None,
        lags: bool,
        rescue: bool,
        with_backends: set[str],
    ) -> None:
        nonlocal published
        for name in names:
            address = {"kind": "address", "name": "", "address": f"127.0.0.1:{18_000 + names.index(name)}"}
            Workload.objects.filter(variant__name=name).update(
                backend=address if name in with_backends else {}
            )
        endpoint = scene.endpoint
        endpoint.desired_shares, endpoint.desired_fallback, endpoint.rescue = desired, scene.stable, rescue
        endpoint.accepted_at = NOW - timedelta(seconds=3) if lags else None
        endpoint.applied = {} if applied is None else {"shares": applied}
        if as_desired:
            endpoint.applied = route_json(desired_route(endpoint, scene.world))
        endpoint.save(update_fields=ROUTE_FIELDS)
        before = endpoint.applied.get("shares")
        scene.router.sent.clear()
        scene.router.shows = lambda route: answer
        scene.converge(Observation({}, shown, route_known=True))
        by_hand = shown is not None and before is not None and split(shown.shares) != split(before)
        wanted = split(shown.shares) if by_hand and shown is not None else desired
        assert [dict(route.shares) for route in scene.router.sent] in ([], [wanted])
        published += len(scene.router.sent)
        assert Endpoint.objects.get().desired_shares == desired

    holds()
    assert published > 10, "a property of what is never published would say nothing"
