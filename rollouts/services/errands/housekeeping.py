"""Housekeeping: prunes what has a retention and packs old evidence. One chore that fails keeps no other from being
done."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

from controlplane.api.idempotency import forget_expired
from controlplane.kernel.clock import Clock
from controlplane.passes.services import Pauses, Report, run_each
from controlplane.timekeeping.jumps import look_at_clock, now_for_retention
from rollouts.models import Effect, EffectState, Feedback, FeedbackState
from rollouts.services.errands.belongings import look_at_belongings
from rollouts.services.errands.packing import forget_evidence, pack_evidence
from rollouts.services.evidence.replay import forget_replays
from rollouts.services.loop.samples import prune_samples
from rollouts.services.world import Worlds

HOUSEKEEPING = "housekeeping"  # the pass, as people read it
PAUSES = Pauses(first=60, longest=3600)
FEEDBACK_KEPT = timedelta(days=30)
EFFECTS_KEPT = timedelta(days=30)


def keep_house(*, clock: Clock, evidence_days: int, worlds: Worlds) -> Report:
    """Does every chore that is due; a chore that failed is tried again later, with its error kept meanwhile.

    worlds  whose routers' logs are kept within bounds, and whose orphans are taken away
    """
    now = look_at_clock(clock).at
    # A clock that jumped makes nothing older, so that it deletes nothing that was to be kept.
    longest = max(timedelta(days=evidence_days), FEEDBACK_KEPT, EFFECTS_KEPT)
    kept_until = now_for_retention(now, longest=longest)
    chores: dict[str, Callable[[], object]] = {
        "old samples": lambda: prune_samples(now=kept_until),
        "settled ratings": lambda: _forget_feedback(kept_until),
        "done effects": lambda: _forget_effects(kept_until),
        "packing": lambda: pack_evidence(now=now),
        "retention of evidence": lambda: forget_evidence(now=kept_until, days=evidence_days),
        "unfinished replays": lambda: forget_replays(now=kept_until),
        "answers kept for repeated requests": lambda: forget_expired(now=kept_until),
    }
    for name in worlds.names:
        chores[f"the log of the router of {name}"] = partial(_rotate, worlds, name)
        chores[f"what lies in {name}"] = partial(_look_there, worlds, name, now)
    return run_each(
        name=HOUSEKEEPING,
        items=chores,
        key=lambda chore: chore,
        work=lambda chore: chores[chore](),
        clock=clock,
        pauses=PAUSES,
    )


def _rotate(worlds: Worlds, cluster: str) -> None:
    worlds.of(cluster).request_log.rotate()


def _look_there(worlds: Worlds, cluster: str, now: datetime) -> None:
    look_at_belongings(world=worlds.of(cluster), now=now)


def _forget_feedback(now: datetime) -> None:
    settled = Feedback.objects.exclude(state=FeedbackState.PENDING)
    settled.filter(received_at__lt=now - FEEDBACK_KEPT).delete()


def _forget_effects(now: datetime) -> None:
    Effect.objects.exclude(state=EffectState.PENDING).filter(created_at__lt=now - EFFECTS_KEPT).delete()
