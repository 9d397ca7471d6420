"""Rounds of probes: who is asked now, by one worker at a time, and how those that hang keep nobody else waiting.

A round asks a few golden prompts of one rollout, or, before it has traffic, proves that its candidates answer
themselves. Each round is a task of its own. Whoever is to be asked is claimed first (`Rollout.probing_until`, a
compare-and-set), so that no rollout has two rounds at a time; a claim whose worker was killed runs out.

A round that takes as long as an engine that gives no answer marks its rollout. Of marked rollouts at most
HANGING_AT_ONCE have a round at a time: the other threads stay free for rollouts that answer.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from django.db.models import F, Q

from controlplane.passes.services import Pauses, Report, forget_gone, run_each
from controlplane.timekeeping.claims import free
from rollouts.domain.lifecycle.states import Phase
from rollouts.models import Rollout
from rollouts.services.errands.probes import probe_rollout, probes_are_due
from rollouts.services.errands.proofs import prove_candidates
from rollouts.services.world import World, Worlds

PROBES = "probes"  # the pass, as people read it
PAUSES = Pauses(first=2, longest=30)  # probes are evidence: a rollout waits for them
HANGING_AT_ONCE = 8
MOST_A_TICK = 200  # rounds: many more than the threads can have, few enough to be claimed in a moment
# Longer than a round can last: PATIENCE_SECONDS of `probes.py`, and one prompt to six arms, two at a time, 20 s each.
ROUND_LIFETIME = timedelta(seconds=120)
QUEUED_FOR = timedelta(seconds=30)  # so long a claimed round may wait for a thread; then it is claimed anew
HAS_PROBES = Q(phase__in=(Phase.PROVISIONING, Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING)) | Q(
    phase=Phase.SUCCEEDED, watching=True
)


def claim_rounds(*, now: datetime) -> list[tuple[int, datetime]]:
    """Claims the rollouts that may have a round now: each one's id, and until when it is claimed. Those first that were
    asked longest ago, at most MOST_A_TICK.

    Costs two queries, one more for troubles that are gone, and one a claim.
    """
    rollouts = Rollout.objects.filter(HAS_PROBES, endpoint__restored_state="")
    known = list(rollouts.values_list("pk", flat=True))
    forget_gone(name=PROBES, items=known)
    if not known:
        return []
    idle = rollouts.filter(free("probing_until", now=now, lifetime=ROUND_LIFETIME))
    found = list(
        idle.select_related("endpoint", "gate_policy").order_by(
            F("probing_until").asc(nulls_first=True), "pk"
        )
    )
    due = [rollout for rollout in found if _may_have_work(rollout)]
    hanging = rollouts.filter(probes_hang=True).exclude(pk__in=[rollout.pk for rollout in found]).count()
    until = now + QUEUED_FOR
    claimed = []
    tried = 0
    for rollout in due:
        if tried == MOST_A_TICK:
            break
        if (
            rollout.probes_hang
        ):  # passed over, they take no place: those that wait longest would take all of them
            if hanging >= HANGING_AT_ONCE:
                continue
            hanging += 1
        tried += 1
        if _is_claimed(rollout.pk, rollout.probing_until, until):
            claimed.append((rollout.pk, until))
    return claimed


def run_round(*, rollout_id: int, claimed_until: datetime, worlds: Worlds) -> Report:
    """The round of a rollout that `claim_rounds` claimed; nothing happens when the claim is somebody else's by now.

    A rollout whose probes cannot be asked or kept keeps its error, and is left alone for a while.
    """
    until = worlds.clock.now() + ROUND_LIFETIME
    if not _is_claimed(rollout_id, claimed_until, until):
        return Report()
    began = worlds.clock.reading()
    patience: list[float] = []

    def work(pk: int) -> int:
        cluster = Rollout.objects.values_list("endpoint__cluster__name", flat=True).get(pk=pk)
        world = worlds.of(cluster)
        patience.append(world.probe_timeout)
        return _work(pk, world)

    try:
        return run_each(
            name=PROBES,
            items=[rollout_id],
            key=lambda pk: pk,
            label=lambda pk: f"rollout #{pk}",
            work=work,
            clock=worlds.clock,
            pauses=PAUSES,
            forgets=False,
        )
    finally:
        now = worlds.clock.reading()
        hangs = bool(patience) and now.steady - began.steady >= patience[0]
        # What was claimed until now is free, and tells who was asked longest ago.
        Rollout.objects.filter(pk=rollout_id, probing_until=until).update(
            probing_until=now.at, probes_hang=hangs
        )


def _may_have_work(rollout: Rollout) -> bool:
    """Whether a round of it may have something to do. Of one whose row is odd nobody knows: its round finds out what is
    wrong and keeps the error, and nobody else waits for that."""
    try:
        return rollout.phase == Phase.PROVISIONING.value or probes_are_due(rollout)
    except Exception:  # the boundary of one rollout
        return True


def _is_claimed(rollout_id: int, before: datetime | None, until: datetime) -> bool:
    """Whether the claim could be taken from the state that was read."""
    return Rollout.objects.filter(pk=rollout_id, probing_until=before).update(probing_until=until) == 1


def _work(rollout_id: int, world: World) -> int:
    phase = Rollout.objects.filter(pk=rollout_id).values_list("phase", flat=True).first()
    work: Callable[..., int] = prove_candidates if phase == Phase.PROVISIONING.value else probe_rollout
    return work(rollout_id=rollout_id, world=world)
