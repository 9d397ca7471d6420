"""Rounds of probes: one at a time for a rollout, and those that hang keep nobody else waiting."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from controlplane.passes.models import ItemTrouble
from rollouts.models import ProbeResult, Rollout
from rollouts.ports import Answer
from rollouts.services.errands.probe_rounds import (
    HANGING_AT_ONCE,
    PROBES,
    QUEUED_FOR,
    ROUND_LIFETIME,
    claim_rounds,
    run_round,
)
from tests import factories
from tests.rollouts.memory_world import MemoryWorld
from tests.rollouts.worlds import worlds_of

pytestmark = pytest.mark.django_db


class Prober:
    """Answers at once; of an endpoint that hangs nothing comes until the time is over."""

    def __init__(self, w: MemoryWorld, *hanging: str) -> None:
        self._clock, self._hanging = w.clock, hanging
        self.asked: list[str] = []

    def ask(self, *, endpoint: str, variant: str, timeout: float, **_: Any) -> Answer:
        self.asked.append(endpoint)
        if endpoint in self._hanging:
            self._clock.advance(timeout)
        return Answer(text="billing", variant=variant, seconds=0.1)


@pytest.fixture
def w(tmp_path: Path) -> MemoryWorld:
    return MemoryWorld(tmp_path)


def progressing(*names: str) -> dict[str, Rollout]:
    made = {name: factories.rollout_progressing(of=factories.endpoint(name)) for name in names}
    ProbeResult.objects.all().delete()
    return made


def claimed(w: MemoryWorld) -> dict[int, datetime]:
    return dict(claim_rounds(now=w.now))


def test_claim__every_rollout_with_traffic__once(w: MemoryWorld) -> None:
    made = progressing("a", "b")
    assert set(claimed(w)) == {made["a"].pk, made["b"].pk}
    assert claimed(w) == {}


def test_claim__round_was_never_begun_or_its_worker_was_killed__runs_out(w: MemoryWorld) -> None:
    rollout = progressing("a")["a"]
    assert claimed(w)
    w.clock.advance(QUEUED_FOR.total_seconds() + 1)
    assert claimed(w)
    Rollout.objects.filter(pk=rollout.pk).update(probing_until=w.now + ROUND_LIFETIME)
    assert claimed(w) == {}
    w.clock.advance(ROUND_LIFETIME.total_seconds() + 1)
    assert claimed(w)


def test_round__claim_is_somebody_elses_by_now__asks_nobody(w: MemoryWorld) -> None:
    rollout = progressing("a")["a"]
    prober = Prober(w)
    world = replace(w.world, prober=prober)
    [(_, until)] = claimed(w).items()
    run_round(rollout_id=rollout.pk, claimed_until=until, worlds=worlds_of(world))
    once = len(prober.asked)
    run_round(rollout_id=rollout.pk, claimed_until=until, worlds=worlds_of(world))
    assert len(prober.asked) == once > 0


def test_round__ended__the_next_one_may_begin_and_the_longest_unasked_comes_first(w: MemoryWorld) -> None:
    made = progressing("a", "b")
    world = replace(w.world, prober=Prober(w))
    for name in ("b", "a"):
        w.clock.advance(1)
        run_round(rollout_id=made[name].pk, claimed_until=claim_of(w, made[name]), worlds=worlds_of(world))
    w.clock.advance(QUEUED_FOR.total_seconds() + 1)
    assert [pk for pk, _ in claim_rounds(now=w.now)] == [made["b"].pk, made["a"].pk]


def claim_of(w: MemoryWorld, rollout: Rollout) -> datetime:
    until = w.now + QUEUED_FOR
    Rollout.objects.filter(pk=rollout.pk).update(probing_until=until)
    return until


def test_round__somebody_hangs__ends_after_one_prompt_and_is_marked(w: MemoryWorld) -> None:
    rollout = progressing("a")["a"]
    prober = Prober(w, "a")
    [(_, until)] = claimed(w).items()
    run_round(rollout_id=rollout.pk, claimed_until=until, worlds=worlds_of(replace(w.world, prober=prober)))
    assert len(prober.asked) == 2, "one prompt, to both"
    assert Rollout.objects.get(pk=rollout.pk).probes_hang


def test_round__answers_again__is_marked_no_more(w: MemoryWorld) -> None:
    rollout = progressing("a")["a"]
    Rollout.objects.update(probes_hang=True)
    [(_, until)] = claimed(w).items()
    run_round(
        rollout_id=rollout.pk, claimed_until=until, worlds=worlds_of(replace(w.world, prober=Prober(w)))
    )
    assert not Rollout.objects.get(pk=rollout.pk).probes_hang


def test_claim__more_hang_than_may_at_once__those_that_answer_still_have_their_rounds(w: MemoryWorld) -> None:
    hanging = progressing(*(f"h{n}" for n in range(HANGING_AT_ONCE + 2)))
    Rollout.objects.update(probes_hang=True)
    well = progressing("well")["well"]
    found = claimed(w)
    assert well.pk in found
    assert len(set(found) - {well.pk}) == HANGING_AT_ONCE
    assert claimed(w) == {}, "their places are taken"
    assert len(hanging) > HANGING_AT_ONCE


def test_claim__more_hang_than_have_rounds_in_a_tick__those_that_answer_still_have_theirs(
    w: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollouts.services.errands.probe_rounds.MOST_A_TICK", HANGING_AT_ONCE + 1)
    progressing(*(f"h{n}" for n in range(HANGING_AT_ONCE + 3)))
    Rollout.objects.update(probes_hang=True)
    well = progressing("well")["well"]
    assert well.pk in claimed(w)


def test_round__cannot_be_kept__is_told_and_the_others_go_on(
    w: MemoryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = progressing("a", "b")

    def keep(rollout: Rollout, *rest: Any) -> int:
        if rollout.pk == made["a"].pk:
            raise ValueError("odd")
        return 1

    monkeypatch.setattr("rollouts.services.errands.probes._keep", keep)
    world = replace(w.world, prober=Prober(w))
    reports = [
        run_round(rollout_id=pk, claimed_until=until, worlds=worlds_of(world))
        for pk, until in claimed(w).items()
    ]
    assert sorted((report.done, report.failed) for report in reports) == [(0, 1), (1, 0)]
    assert ItemTrouble.objects.get(pass_name=PROBES).item == str(made["a"].pk)
    Rollout.objects.filter(pk=made["a"].pk).update(phase="cancelled")
    claim_rounds(now=w.now)
    assert not ItemTrouble.objects.exists(), "the trouble of a rollout that is over is forgotten"


def test_claim__row_of_one_is_odd__its_round_tells_it_and_the_others_have_theirs(w: MemoryWorld) -> None:
    made = progressing("a", "b")
    Rollout.objects.filter(pk=made["a"].pk).update(own_policy={"gates": "none that is known"})
    rounds = claimed(w)
    assert set(rounds) == {made["a"].pk, made["b"].pk}
    run_round(rollout_id=made["a"].pk, claimed_until=rounds[made["a"].pk], worlds=w.worlds)
    assert ItemTrouble.objects.get(pass_name=PROBES).label == f"rollout #{made['a'].pk}"
