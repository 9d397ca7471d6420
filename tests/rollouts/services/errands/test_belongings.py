"""Orphans and servers of others: what is written down of them, and which orphan is taken away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controlplane.audit.models import AuditEvent
from controlplane.kernel.errors import Rejected, Unavailable
from rollouts.domain.belongings import DOUBT_SECONDS, UNKNOWN_SECONDS, Belongings, LaunchFound, ModelServer
from rollouts.domain.engines import WorkloadPhase
from rollouts.models import Cluster, Endpoint, HistoryEvent, Variant
from rollouts.ports import Route, WorkloadSpec
from rollouts.services.commands.rollouts import set_global_stop
from rollouts.services.errands.belongings import LOOK_SECONDS, look_at_belongings
from tests.rollouts.memory_world import MemoryWorld

pytestmark = pytest.mark.django_db

LOST = "triage-v9-aaaa"
DAY = UNKNOWN_SECONDS + 1


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    """Version 1 serves, and beside it runs what the database does not know."""
    w = MemoryWorld(tmp_path).serve()
    launch(w, LOST)
    return w


def launch(w: MemoryWorld, variant: str) -> WorkloadSpec:
    """Somebody launched it who wrote nothing down."""
    ours = w.cluster.launched(w.variant(1).name)
    assert ours is not None
    spec = WorkloadSpec(variant, "triage", ours.source, ours.manifest)
    w.cluster.ensure(spec, token=w.endpoint.fencing_token)
    return spec


def look(w: MemoryWorld, *, after: float = LOOK_SECONDS + 1) -> int:
    w.clock.advance(after)
    return look_at_belongings(world=w.world, now=w.now)


def told(w: MemoryWorld) -> Belongings:
    found = Belongings.from_json(Cluster.objects.get(name="here").belongings)
    assert found is not None
    return found


def waits(w: MemoryWorld) -> dict[str, str]:
    return {one.launch.variant: one.waits for one in told(w).orphans}


def test_orphan__seen_first__is_told_with_its_age_and_stays(w: MemoryWorld) -> None:
    assert look(w) == 0
    (orphan,) = told(w).orphans
    assert (orphan.launch.variant, orphan.launch.endpoint) == (LOST, "triage")
    assert orphan.launch.made_at is not None
    assert told(w).at == w.now.timestamp()
    assert "unknown for 24 hours" in orphan.waits
    assert LOST in w.cluster.statuses()


def test_orphan__unknown_for_a_day__is_taken_away_and_audited(w: MemoryWorld) -> None:
    look(w)
    assert look(w, after=DAY) == 1
    assert LOST not in w.cluster.statuses()
    assert told(w).orphans == ()
    event = AuditEvent.objects.get(action="cluster.orphan-taken-away")
    assert (event.actor_kind, event.object_id) == ("headgate", "here")
    assert event.after is not None
    assert event.after["variant"] == LOST


def test_orphan__not_a_day_yet__stays_and_says_until_when(w: MemoryWorld) -> None:
    look(w)
    assert look(w, after=UNKNOWN_SECONDS - 60) == 0
    assert "It is taken away after " in waits(w)[LOST]


def test_what_serves__is_never_among_them(w: MemoryWorld) -> None:
    look(w)
    look(w, after=DAY)
    assert w.variant(1).name in w.cluster.statuses()
    w.run_for(3)
    assert w.shares() == {1: 10_000}


def test_orphan__asked_for_again_meanwhile__begins_anew(w: MemoryWorld) -> None:
    """A launch that was not written down yet when we looked."""
    look(w)
    launch(w, LOST)
    assert look(w, after=DAY) == 0
    assert LOST in w.cluster.statuses()


def test_orphan__asked_for_between_the_look_and_the_deletion__stays(
    w: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(w)
    take_away = w.cluster.take_away

    def overtaken(found: LaunchFound) -> bool:
        launch(w, LOST)
        return take_away(found)

    monkeypatch.setattr(w.cluster, "take_away", overtaken)
    assert look(w, after=DAY) == 0
    assert LOST in w.cluster.statuses()


def test_orphan__becomes_known_between_the_look_and_the_deletion__stays(
    w: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(w)
    mark = w.cluster.mark_unknown
    launch(w, "triage-v8-bbbb")  # new, so that it is marked in the same pass

    def meanwhile(found: LaunchFound, since: float | None) -> None:
        mark(found, since)
        known = w.variant(1)
        Variant.objects.create(
            endpoint=known.endpoint, version=known.version, name=LOST, digest="sha256:x", serving=known.serving,
            created_at=w.now,
        )  # fmt: skip

    monkeypatch.setattr(w.cluster, "mark_unknown", meanwhile)
    w.start(2)  # so that the database knows as many as it does not
    w.run_for(3)
    assert look(w, after=DAY) == 0
    assert LOST in w.cluster.statuses()


def test_orphan__that_a_route_names__serves_users_and_stays(w: MemoryWorld) -> None:
    """As after a restore of a database in which its endpoint is not there yet."""
    spec = WorkloadSpec("other-v1-aaaa", "other", "", launch(w, LOST).manifest)
    w.cluster.take_away(w.cluster.belongings().launches[-1])
    w.cluster.ensure(spec, token=1)
    w.run_for(3)
    backend = w.cluster.statuses()[spec.variant].backend
    assert backend is not None
    w.router.apply(Route("other", {spec.variant: 10_000}, (backend,), spec.variant), token=1)
    look(w)
    assert look(w, after=DAY) == 0
    assert waits(w)[spec.variant] == "A route still names it: take the route of other away first."


def test_orphan__router_away__stays(w: MemoryWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    look(w)

    def away(*args: object) -> Any:
        raise Unavailable("The router does not answer.")

    monkeypatch.setattr(w.router, "observe_all", away)
    assert look(w, after=DAY) == 0
    assert "the router does not say it now" in waits(w)[LOST]


def test_orphan__route_of_its_endpoint_is_odd__stays(w: MemoryWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """`observe_all` leaves an odd one out, as if there were none."""
    look(w)

    def odd(endpoint: str) -> Any:
        raise Rejected("The route is odd.")

    monkeypatch.setattr(w.router, "observe_all", dict)
    monkeypatch.setattr(w.router, "observe", odd)
    assert look(w, after=DAY) == 0
    assert "the router does not say it now" in waits(w)[LOST]


def test_orphan__database_is_an_older_copy__stays_and_no_time_counts(w: MemoryWorld) -> None:
    look(w)
    Endpoint.objects.update(restored_state="watching")
    assert look(w, after=DAY) == 0
    assert "The database is an older copy" in waits(w)[LOST]
    Endpoint.objects.update(restored_state="")
    assert look(w, after=LOOK_SECONDS + 1) == 0
    assert look(w, after=UNKNOWN_SECONDS - 60) == 0
    assert look(w, after=LOOK_SECONDS) == 1


def test_orphan__database_was_an_older_copy_a_day_ago__stays_for_a_week(w: MemoryWorld) -> None:
    look(w)
    HistoryEvent.objects.create(endpoint=w.endpoint, kind="restored", at=w.now, title="Control again")
    assert look(w, after=DAY) == 0
    assert "The database was an older copy" in waits(w)[LOST]
    assert look(w, after=DOUBT_SECONDS) == 0  # from here on its time counts
    assert look(w, after=DAY) == 1


def test_orphan__global_stop__stays(w: MemoryWorld) -> None:
    look(w)
    set_global_stop(on=True, why="an incident", actor=w.manager, now=w.now)
    assert look(w, after=DAY) == 0
    assert waits(w)[LOST] == "The global stop is on: none is taken away."
    assert LOST in w.cluster.statuses()


def test_orphans__of_which_one_cannot_be_taken_away__the_others_are(
    w: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    w.start(2)
    w.run_for(3)
    launch(w, "odd")
    look(w)
    take_away = w.cluster.take_away

    def odd(found: LaunchFound) -> bool:
        if found.variant == "odd":
            raise Rejected("The cluster refuses.")
        return take_away(found)

    monkeypatch.setattr(w.cluster, "take_away", odd)
    assert look(w, after=DAY) == 1
    assert (LOST in w.cluster.statuses(), "odd" in w.cluster.statuses()) == (False, True)


def test_orphans__of_which_one_cannot_be_marked__the_others_are(
    w: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch(w, "odd")
    mark = w.cluster.mark_unknown

    def odd(found: LaunchFound, since: float | None) -> None:
        if found.variant == "odd":
            raise Rejected("The cluster refuses.")
        mark(found, since)

    monkeypatch.setattr(w.cluster, "mark_unknown", odd)
    look(w)
    marked = {one.variant: one.unknown_since for one in w.cluster.belongings().launches}
    assert (marked["odd"], marked[LOST]) == (None, w.now.timestamp())


def test_look__a_moment_ago__is_not_asked_again(w: MemoryWorld) -> None:
    look(w)
    before = told(w)
    assert look(w, after=60) == 0
    assert told(w) == before


def test_look__cluster_away__keeps_what_was_found(w: MemoryWorld) -> None:
    look(w)
    before = told(w)
    w.cluster.outage = "it burns"
    with pytest.raises(Unavailable):
        look(w)
    assert told(w) == before


def test_servers__of_others__are_told(w: MemoryWorld) -> None:
    server = ModelServer("Deployment llama", "vllm/vllm-openai:v1", "llama", "Helm", 1, 2)
    w.cluster.servers = (server,)
    look(w)
    assert told(w).servers == (server,)


def test_orphan__that_ends_already__is_left_to_end(w: MemoryWorld) -> None:
    w.cluster.set_in_flight(LOST, 1)
    w.cluster.drain(LOST, "triage", token=w.endpoint.fencing_token)
    look(w, after=30)
    assert w.cluster.statuses()[LOST].phase is WorkloadPhase.DRAINING
    assert waits(w)[LOST] == "It ends already."
