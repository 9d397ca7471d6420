"""Which gateway is tried when, by whom, and what is written down of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from controlplane.audit.models import AuditEvent
from controlplane.kernel.errors import HeadgateError, Refused, Unavailable
from controlplane.passes.models import ItemTrouble
from rollouts import wiring
from rollouts.domain.trials import AGAIN_SECONDS, TRIED, GatewayTrait, TrialFinding, Trials
from rollouts.models import Cluster
from rollouts.services.errands.gateway_trials import (
    AT_ONCE,
    LOOK_APART,
    LOOK_LIFETIME,
    TRIALS,
    claim_gateways,
    look_at_gateway,
    try_now,
)
from rollouts.services.world import World, Worlds
from tests.rollouts.memory_world import MemoryWorld
from tests.rollouts.worlds import worlds_of

pytestmark = pytest.mark.django_db

GOOD = tuple(TrialFinding(trait, True, "as declared") for trait in TRIED)
LEAKS = (TrialFinding(GatewayTrait.KEEPS_ZERO, False, "a backend with weight 0 got 3 of 200 requests"),)


class MemoryTrials:
    """A gateway of which this is found.

    during   done in the midst of a trial
    """

    def __init__(self) -> None:
        self.is_now = "edge, generation 1"
        self.found: tuple[TrialFinding, ...] | HeadgateError = GOOD
        self.during: Callable[[], object] = lambda: None
        self.ran = self.cleared = 0
        self.away: HeadgateError | None = None

    def declared(self) -> frozenset[GatewayTrait]:
        return frozenset(TRIED)

    def gateway(self) -> str:
        if self.away is not None:
            raise self.away
        return self.is_now

    def run(self) -> tuple[TrialFinding, ...]:
        self.ran += 1
        self.during()
        if isinstance(self.found, HeadgateError):
            raise self.found
        return self.found

    def clear(self) -> int:
        self.cleared += 1
        return 0


class Bench:
    """A cluster `here` with a gateway, and its worker."""

    def __init__(self, folder: Path) -> None:
        self.memory = MemoryWorld(folder)
        self.trials = MemoryTrials()
        self.world: World = replace(self.memory.world, trials=self.trials)
        self.worlds: Worlds = worlds_of(self.world)

    @property
    def now(self) -> datetime:
        return self.memory.now

    def claim(self) -> list[tuple[str, datetime]]:
        return claim_gateways(worlds=self.worlds, now=self.now)

    def look(self, *, after: timedelta = LOOK_APART) -> None:
        """A tick and what it begins."""
        self.memory.clock.advance(after.total_seconds())
        for name, until in self.claim():
            look_at_gateway(cluster=name, claimed_until=until, worlds=self.worlds)

    @property
    def known(self) -> Trials:
        return Trials.from_json(Cluster.objects.get(name="here").trials)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_look__new_cluster__is_tried_by_itself_and_written_down(bench: Bench) -> None:
    bench.look()
    at, gateway = bench.now.timestamp(), "edge, generation 1"
    assert bench.known == Trials(gateway, at, GOOD, gateway, at)
    event = AuditEvent.objects.get(action="cluster.gateway-tried")
    assert (event.actor_kind, event.object_id) == ("headgate", "here")
    assert event.after is not None
    assert event.after["findings"][0] == {"trait": "keeps-zero", "holds": True, "words": "as declared"}


def test_look__gateway_that_was_tried__is_tried_once(bench: Bench) -> None:
    for _ in range(5):
        bench.look(after=timedelta(days=1))
    assert bench.trials.ran == 1


def test_look__what_a_killed_worker_left__is_cleared_also_where_nothing_is_due(bench: Bench) -> None:
    bench.look()
    bench.look()
    assert (bench.trials.ran, bench.trials.cleared) == (1, 2)


def test_look__gateway_was_changed__is_tried_anew(bench: Bench) -> None:
    bench.look()
    bench.trials.is_now, bench.trials.found = "edge, generation 2", LEAKS
    bench.look()
    assert bench.known.gateway == "edge, generation 2"
    assert bench.known.refuted(GatewayTrait.KEEPS_ZERO)


def test_look__trial_came_to_no_end__says_why_keeps_what_was_found_and_tries_again_later(
    bench: Bench,
) -> None:
    bench.look()
    bench.trials.is_now, bench.trials.found = (
        "edge, generation 2",
        Unavailable("No node can take it.", fix="Free one."),
    )
    bench.look()
    assert (bench.known.findings, bench.known.gateway) == (GOOD, "edge, generation 1")
    assert bench.known.problem == "No node can take it. Free one."
    bench.look()
    assert bench.trials.ran == 2
    bench.trials.found = GOOD
    bench.look(after=timedelta(seconds=AGAIN_SECONDS))
    assert (bench.trials.ran, bench.known.problem) == (3, "")
    assert AuditEvent.objects.filter(action="cluster.gateway-tried").count() == 2


def test_look__cluster_does_not_answer__is_told_and_left_alone_for_a_while(bench: Bench) -> None:
    bench.trials.away = Unavailable("The API server does not answer.")
    bench.look()
    assert "does not answer" in ItemTrouble.objects.get(pass_name=TRIALS).error
    assert bench.known == Trials()
    bench.trials.away = None
    bench.look(after=timedelta(hours=2))
    assert bench.known.findings == GOOD
    assert not ItemTrouble.objects.filter(pass_name=TRIALS).exists()


def test_claim__cluster_with_nothing_to_try__is_left_out(bench: Bench) -> None:
    bench.worlds = worlds_of(bench.memory.world)
    assert bench.claim() == []


def test_claim__cluster_that_cannot_be_used__stops_no_other(bench: Bench) -> None:
    Cluster.objects.create(name="broken", kind="kubernetes")

    def build(name: str) -> World:
        if name == "broken":
            raise Unavailable("its kubeconfig is missing")
        return bench.world

    bench.worlds = Worlds(("broken", "here"), build, bench.memory.clock)
    assert [name for name, _ in bench.claim()] == ["here"]


def test_claim__looked_a_moment_ago__waits(bench: Bench) -> None:
    bench.look()
    bench.memory.clock.advance(LOOK_APART.total_seconds() - 1)
    assert bench.claim() == []
    bench.memory.clock.advance(1)
    assert len(bench.claim()) == 1


def test_claim__while_another_worker_tries__is_not_given_twice(bench: Bench) -> None:
    second: list[object] = []
    bench.trials.during = lambda: second.extend(bench.claim())
    bench.look()
    assert (second, bench.trials.ran) == ([], 1)


def test_claim__of_a_killed_worker__runs_out(bench: Bench) -> None:
    (first,) = bench.claim()
    assert bench.claim() == []
    bench.memory.clock.advance(LOOK_LIFETIME.total_seconds() + LOOK_APART.total_seconds())
    assert len(bench.claim()) == 1
    look_at_gateway(cluster=first[0], claimed_until=first[1], worlds=bench.worlds)
    assert bench.trials.ran == 0  # it is somebody else's by now


def test_claim__many_clusters__are_few_at_once(bench: Bench) -> None:
    names = [f"c{number}" for number in range(AT_ONCE + 3)]
    Cluster.objects.bulk_create(Cluster(name=name, kind="kubernetes") for name in names)
    bench.worlds = Worlds((*names,), lambda name: bench.world, bench.memory.clock)
    assert len(bench.claim()) == AT_ONCE
    assert bench.claim() == []


# --- at once ----------------------------------------------------------------------------------------------------------


def test_try_now__tried_already__is_tried_again(bench: Bench) -> None:
    bench.look()
    bench.trials.found = LEAKS
    assert try_now(world=bench.world) == bench.known
    assert bench.known.refuted(GatewayTrait.KEEPS_ZERO)


def test_try_now__while_a_worker_tries__is_refused(bench: Bench) -> None:
    def second() -> None:
        with pytest.raises(Refused, match="being tried already"):
            try_now(world=bench.world)

    bench.trials.during = second
    bench.look()
    assert bench.trials.ran == 1


def test_try_now__nothing_to_try__is_refused(bench: Bench) -> None:
    with pytest.raises(Refused, match="there is nothing to try"):
        try_now(world=bench.memory.world)


def test_command__all_proven__prints_each_with_its_numbers(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(wiring, "worlds", lambda: bench.worlds)
    call_command("try_gateway", "here")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "here can keep requests away from a variant with a share of 0: As declared."
    assert len(lines) == len(TRIED)


@pytest.mark.parametrize(
    ("found", "words"),
    [(LEAKS, "was refuted"), (Unavailable("No node can take it."), "came to no end. No node can take it.")],
)
def test_command__refuted_or_without_an_end__fails(
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    found: tuple[TrialFinding, ...] | HeadgateError,
    words: str,
) -> None:
    monkeypatch.setattr(wiring, "worlds", lambda: bench.worlds)
    bench.trials.found = found
    with pytest.raises(CommandError, match=words):
        call_command("try_gateway", "here")


def test_command__unknown_cluster__names_those_that_there_are(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "worlds", lambda: bench.worlds)
    with pytest.raises(CommandError, match="Use one of: here"):
        call_command("try_gateway", "nowhere")
