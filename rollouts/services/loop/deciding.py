"""Decide: what a rollout's interval and situation mean, and what of that is kept. Pure but for what it puts among the
turn's writes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime

from controlplane.passes.words import error_words
from rollouts.domain.lifecycle.decide import decide
from rollouts.domain.lifecycle.decision import Decision, GatesView, Hold, RolloutView
from rollouts.domain.lifecycle.states import Phase
from rollouts.domain.record.situation import Situation
from rollouts.domain.strategies import is_known, strategy_of
from rollouts.models import Arm, Rollout
from rollouts.ports import WorkloadStatus
from rollouts.services.loop.measure import Measured
from rollouts.services.loop.observe import Observation
from rollouts.services.loop.recording import count_interval, keep_decision, keep_evidence
from rollouts.services.loop.situation import situation_of
from rollouts.services.loop.views import with_counts
from rollouts.services.loop.writes import Writes
from rollouts.services.software import software

log = logging.getLogger(__name__)


def decide_rollout(
    *,
    rollout: Rollout,
    view: RolloutView,
    arms: Sequence[Arm],
    newest_digest: str | None,
    observation: Observation,
    statuses: Mapping[str, WorkloadStatus],
    measured: Measured | None,
    answered: frozenset[str],
    hold: Hold | None,
    writes: Writes,
    now: datetime,
    unread: str = "",
) -> Decision:
    """The decision. The interval, if one ended, is counted before; its evidence and the decision are kept.

    arms            the rollout's rows as they were read in this turn
    newest_digest   of its newest interval that is not packed; None when there is none
    answered        candidates that answered a forced request
    hold            what keeps everything from moving forward
    unread          why what its gates said last cannot be read; empty when it can
    """
    seen = situation_of(rollout.endpoint, view, observation, statuses, answered=answered, hold=hold, now=now)
    if measured is not None:
        count_interval(
            rollout=rollout, arms=arms, measured=measured, seen=observation, writes=writes, now=now
        )
    moving = rollout.phase in (Phase.PROGRESSING.value, Phase.PAUSED.value)
    if seen.in_force and rollout.step_since is None and moving:
        rollout.step_since = now
        writes.save(rollout, "step_since")
    view = with_counts(view, rollout)
    decision = decide(view, seen, _known_gates(rollout, view, measured, unread), now.timestamp())
    workload = measured.workload if measured is not None else {}
    situation = Situation(now.timestamp(), view, seen, workload, software())
    if measured is not None:
        keep_evidence(
            rollout=rollout,
            measured=measured,
            situation=situation,
            decision=decision,
            newest_digest=newest_digest,
            writes=writes,
            now=now,
        )
    elif decision.event is not None or decision.effects or decision.end_watch:
        keep_decision(rollout=rollout, situation=situation, decision=decision, writes=writes)
    return decision


def _known_gates(rollout: Rollout, view: RolloutView, measured: Measured | None, unread: str) -> GatesView:
    """What the gates say. On the way back nothing is decided by them: there it is nothing where what is stored of them
    is odd, so that such a rollout can be rolled back."""
    try:
        return _gates(rollout, view, measured, unread)
    except Exception as error:
        if view.phase is not Phase.ROLLING_BACK:
            raise
        log.warning("rollout.way_back_ungated rollout=%s %s", rollout, error_words(error))
        return GatesView()


def _gates(rollout: Rollout, view: RolloutView, measured: Measured | None, unread: str) -> GatesView:
    """What the gates say; between two intervals what they said last. Nothing, where nobody here knows the strategy, or
    reads what a newer version wrote."""
    if not is_known(view) or unread:
        return GatesView(unread=unread)
    strategy, policy = strategy_of(view), rollout.policy
    if measured is not None:
        return strategy.ANALYSIS.gates_view(measured.assessment, policy)
    if rollout.verdicts:
        last = strategy.ANALYSIS.stored_assessment(rollout.verdicts)
        return strategy.ANALYSIS.gates_view(last, policy)
    return strategy.opening_gates(view, policy)
