"""A turn of a batch: one transaction for all that was seen and decided, and what is wrong with one stays with it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from controlplane.kernel.clock import ManualClock
from controlplane.kernel.errors import StaleWriter, Unavailable
from rollouts.domain.lifecycle.effects import DrainWorkload
from rollouts.domain.record.readings import SignalReading
from rollouts.models import Effect, Endpoint, Evidence, Rollout
from rollouts.ports import Backend, ObservedRoute
from rollouts.services.loop.leases import Lease, claim_endpoints
from rollouts.services.loop.turns import Turn, act, decide_together
from rollouts.services.loop.writes import Writes
from rollouts.services.world import World
from rollouts.services.writing import add_effects
from tests import factories
from tests.rollouts.worlds import world_in_memory

pytestmark = pytest.mark.django_db
NOW = factories.right_now()


class Signals:
    """Counters that show nothing; `meanwhile` happens while they are read."""

    def __init__(self) -> None:
        self.meanwhile: Callable[[], object] = lambda: None

    def read_all(self, backends: dict[str, tuple[Backend, ...]]) -> dict[str, SignalReading]:
        self.meanwhile()
        return {name: SignalReading(at=NOW.timestamp(), targets={}) for name in backends}


class Scene:
    """Two endpoints, the first with a canary at 5 %, held by one worker; the router has what was decided."""

    def __init__(self) -> None:
        self.rollout = factories.rollout_progressing(step=0, intervals=3, now=NOW - timedelta(seconds=5))
        self.quiet = factories.endpoint("quiet", now=NOW)
        self.clock, self.signals = ManualClock(NOW), Signals()
        self.world: World = world_in_memory(self.clock, signals=self.signals)
        self.leases = claim_endpoints(
            endpoint_ids=[self.rollout.endpoint_id, self.quiet.pk], owner="turn", now=NOW
        )

    def decide(self, *, first: bool = True) -> list[Turn]:
        return decide_together(leases=self.leases, world=self.world, first=first)

    def taken_over(self, endpoint: Endpoint) -> None:
        Endpoint.objects.filter(pk=endpoint.pk).update(lease_until=None)
        assert claim_endpoints(endpoint_ids=[endpoint.pk], owner="another", now=NOW)

    def kept(self) -> tuple[int, bool, bool]:
        """How many intervals there are, and whether the counters of each endpoint were kept."""
        readings = Endpoint.objects.order_by("pk").values_list("last_reading", flat=True)
        first, second = (bool(reading) for reading in readings)
        return Evidence.objects.count(), first, second


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_decide__nothing_comes_between__keeps_what_was_seen_of_all(scene: Scene) -> None:
    turns = scene.decide()
    assert scene.kept() == (4, True, True)
    assert [(turn.lost, turn.error, turn.measure) for turn in turns] == [(False, None, True)] * 2
    assert turns[0].decision is not None


def test_decide__not_the_first_turn_under_these_leases__measures_nothing(scene: Scene) -> None:
    assert [turn.measure for turn in scene.decide(first=False)] == [False, False]
    assert scene.kept() == (3, False, False)


def test_decide__rollout_is_changed_meanwhile__its_interval_is_dropped_with_the_decision(
    scene: Scene,
) -> None:
    scene.signals.meanwhile = lambda: Rollout.objects.update(revision=99)
    first, second = scene.decide()
    assert (first.decision, first.again, first.lost) == (None, True, False)
    assert scene.kept() == (3, False, True)
    assert not second.again


def test_decide__lease_of_one_is_lost_meanwhile__nothing_of_it_is_written(scene: Scene) -> None:
    scene.signals.meanwhile = lambda: scene.taken_over(scene.rollout.endpoint)
    first, second = scene.decide()
    assert (first.lost, first.over, first.error) == (True, True, None)
    assert scene.kept() == (3, False, True)
    assert not second.lost


def test_decide__one_is_odd__has_its_error_and_the_other_is_written(scene: Scene) -> None:
    Rollout.objects.update(gates_state={"kind": "of nothing that is known"})
    first, second = scene.decide()
    assert first.error is not None
    assert first.over
    assert (second.error, scene.kept()) == (None, (3, False, True))


def test_decide__database_refuses_what_is_written_together__nothing_of_anybody_is_kept(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = Writes.flush

    def refused(writes: Writes, **options: Any) -> None:
        flush(writes, **options)
        if connection.in_atomic_block and len(connection.savepoint_ids) == 1:  # the last one, of all together
            raise ValueError("a column is too small")

    monkeypatch.setattr(Writes, "flush", refused)
    with pytest.raises(ValueError, match="too small"):
        scene.decide()
    monkeypatch.undo()
    assert scene.kept() == (3, False, False)


def turn_of(scene: Scene) -> Turn:
    return scene.decide()[1]


@pytest.mark.parametrize(
    ("error", "lost", "kept"), [(StaleWriter("taken"), True, False), (ValueError("odd"), False, True)]
)
def test_alone__what_goes_wrong_inside__ends_this_turn_only(
    scene: Scene, error: Exception, lost: bool, kept: bool
) -> None:
    def go_wrong() -> None:
        raise error

    turn = turn_of(scene)
    with turn.alone():
        go_wrong()
    assert (turn.over, turn.lost, turn.error) == (True, lost, error if kept else None)


def test_alone__worker_is_killed__is_no_error_of_the_endpoint(scene: Scene) -> None:
    turn = turn_of(scene)
    with pytest.raises(KeyboardInterrupt), turn.alone():
        raise KeyboardInterrupt
    assert (turn.over, turn.error) == (False, None)


def test_act__an_effect_was_carried_out__looks_again_at_once(scene: Scene) -> None:
    add_effects(endpoint=scene.quiet, rollout=None, effects=[DrainWorkload("nobody")], now=NOW)
    Effect.objects.update(kind="set-traffic", payload={})
    turn = turn_of(scene)
    assert turn.acts
    act(turn, world=scene.world)
    assert (turn.again, turn.looks_at, turn.error) == (True, NOW, None)


def test_act__effects_wait__looks_again_soon(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> ObservedRoute:
        raise Unavailable("It does not answer.")

    add_effects(endpoint=scene.quiet, rollout=None, effects=[DrainWorkload("nobody")], now=NOW)
    Effect.objects.update(kind="set-traffic", payload={})
    turn = turn_of(scene)
    monkeypatch.setattr(scene.world.router, "apply", away)
    act(turn, world=scene.world)
    assert not turn.again
    assert turn.looks_at is not None
    assert turn.looks_at <= NOW + timedelta(seconds=1)


def test_act__lease_was_lost__is_given_up_without_an_error(scene: Scene) -> None:
    add_effects(endpoint=scene.quiet, rollout=None, effects=[DrainWorkload("nobody")], now=NOW)
    turn = turn_of(scene)
    scene.taken_over(scene.quiet)
    act(turn, world=scene.world)
    assert (turn.lost, turn.error) == (True, None)
    assert isinstance(turn.lease, Lease)
