"""A bandit with traffic: who leaves the race, how the shares follow the evidence, and when it ends.

Raising a candidate's share is a move forward. It waits during a pause or the global stop, while weights are set by
hand, while the router or the cluster cannot be read, while an engine is not ready, and while the baseline is out of
order. Taking the traffic from an arm that left never waits: when no other arm may grow, its share goes to the baseline.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from controlplane.kernel.words import percent_of_bp
from rollouts.domain.lifecycle.danger import (
    GONE,
    drift_sentence,
    held_without_evidence,
    no_data,
    not_in_force,
    out_of_time,
    stopped,
    told_of_outage,
    workload_cause,
    workload_words,
)
from rollouts.domain.lifecycle.decision import (
    ArmView,
    Decision,
    Drop,
    GatesView,
    RaceView,
    RolloutView,
    Seen,
)
from rollouts.domain.lifecycle.effects import DrainWorkload, SetTraffic
from rollouts.domain.lifecycle.moves import racing_shares, roll_back, stay
from rollouts.domain.lifecycle.plan import FULL_SHARE_BP
from rollouts.domain.lifecycle.states import Event, PauseReason, Phase, transition
from rollouts.domain.strategies.bandit.analysis import KEEPS_BASELINE
from rollouts.domain.strategies.bandit.ending import promote

A_PERSON_DECIDES = "promote one of them, resume or roll back"


def advance(rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision:
    """See the protocol."""
    safety = keep_safe(rollout, seen, gates, now)
    if safety is not None:
        return safety
    held_at = share_words(rollout)
    stop = stopped(rollout, seen, held_at)
    if stop is not None:
        return stop
    race = gates.race or RaceView({})
    waiting = held_without_evidence(rollout, gates, held_at)
    winner = None if waiting is not None else rollout.arm(race.winner)
    wins = winner in rollout.racing and rollout.step_since is not None and seen.in_force
    if winner is not None and wins and seen.is_whole(winner.variant):
        return promote(rollout, sentence=race.sentence, arm=winner.name)
    found = race.tie_sentence or race.sentence
    late = out_of_time(rollout, gates, now, found=found, then=A_PERSON_DECIDES, held_at=held_at)
    if late is not None:
        return late
    if rollout.step_since is None or not seen.in_force:
        return stay(rollout, not_in_force(seen, held_at), race.detail)
    if waiting is not None:
        return waiting
    if winner is not None and wins:
        engine = seen.engine(winner.variant)
        found = "It is not ready now, and is promoted when it is."
        if engine is not None and engine.short:
            found = f"It is promoted when all its replicas are ready: {engine.short_because}."
        words = f"{race.sentence} {found}"
        return stay(rollout, words, f"All traffic moves to {winner.label} then.")
    return told_of_outage(rollout, gates.outage, _reweigh(rollout, seen, race))


# --- who leaves -------------------------------------------------------------------------------------------------------


def keep_safe(rollout: RolloutView, seen: Seen, gates: GatesView, now: float) -> Decision | None:
    """See the protocol: drops arms, and rolls back when no candidate is left or nothing is measured."""
    race = gates.race or RaceView({})
    drops = _leaving(rollout, seen, race)
    if drops or not rollout.racing:
        return _leave(rollout, seen, race, drops)
    blind = no_data(rollout, gates, now, who="no candidate stays")
    if blind is not None:
        return blind
    split = _take_away(rollout, seen, race)
    if split is None:
        return None
    if _growing(rollout, seen, split.shares):
        return _reweighted(rollout, seen, race, split)
    words = (
        "The other arms may not get more traffic now, so the share of the arm that left goes to the baseline."
    )
    made = replace(stay(rollout, rollout.cause_sentence, words), effects=(split,))
    return made if seen.drift is None else _kept_for_a_person(rollout, made, seen.drift)


def _leaving(rollout: RolloutView, seen: Seen, race: RaceView) -> tuple[Drop, ...]:
    """The arms in the race that must leave because of evidence, a guardrail or their own engine, in arm order."""
    left = {drop.arm: drop for drop in race.left}
    drops = []
    for arm in rollout.racing:
        status = seen.engine(arm.variant)
        if arm.name in left:
            drops.append(left[arm.name])
        elif status is not None and status.phase in GONE:
            drops.append(Drop(arm.name, "workload", workload_words(status), workload_cause(status)))
    return tuple(drops)


def _leave(rollout: RolloutView, seen: Seen, race: RaceView, drops: tuple[Drop, ...]) -> Decision:
    out = {drop.arm for drop in drops}
    gone = [arm for arm in rollout.racing if arm.name in out]
    rest = replace(
        rollout, arms=tuple(replace(arm, dropped=True) if arm.name in out else arm for arm in rollout.arms)
    )
    said = " ".join(f"{arm.label}: {drop.sentence}" for arm, drop in zip(gone, drops, strict=True))
    if not rest.racing:
        cause = (drops[-1].blame if drops else "") or KEEPS_BASELINE
        sentence = (
            f"No candidate is left in the race: {rollout.baseline_label} keeps all traffic. {said}".strip()
        )
        return roll_back(rollout, cause=cause, sentence=sentence, drops=drops)
    split = _take_away(rest, seen, race)
    drained = tuple(DrainWorkload(arm.variant) for arm in gone)
    made = Decision(
        phase=transition(rollout.phase, Event.DROP),
        event=Event.DROP,
        step_index=rollout.step_index,
        pause_reason=rollout.pause_reason,
        reason=said,
        next_step=_who_goes_on(rest, split),
        effects=(*((split,) if split is not None else ()), *drained),
        drops=drops,
    )
    return made if seen.drift is None else _kept_for_a_person(rollout, made, seen.drift, said)


def _kept_for_a_person(
    rollout: RolloutView, made: Decision, drift: Mapping[str, int], said: str = ""
) -> Decision:
    """`made`, followed by a pause until a person resumes, because it changes weights that were set by hand.

    Afterwards the router's weights are those that Headgate published, so a later turn could not see that a person had
    set them.
    """
    return replace(
        made,
        phase=transition(rollout.phase, Event.PAUSE),
        event=Event.PAUSE,
        pause_reason=PauseReason.PERSON,
        reason=f"{said} {drift_sentence(drift)}".strip(),
        next_step="The arm that left lost its share. The other weights stay as they were set by hand until a person "
        "resumes.",
        title="Held with the weights that were set by hand",
        detail=drift_sentence(drift),
    )


def _who_goes_on(rest: RolloutView, split: SetTraffic | None) -> str:
    who = " and ".join(arm.label for arm in rest.racing)
    return f"It goes on with {who}." + (f" {_split_words(rest, split.shares)}." if split is not None else "")


# --- the split --------------------------------------------------------------------------------------------------------


def planned_split(rollout: RolloutView) -> SetTraffic:
    """See the protocol."""
    return racing_shares(rollout, {arm.variant: arm.share_bp for arm in rollout.racing})


def share_words(rollout: RolloutView) -> str:
    """See the protocol."""
    return ", ".join(f"{arm.label} {percent_of_bp(arm.share_bp)}" for arm in rollout.racing) or percent_of_bp(
        0
    )


def _take_away(rollout: RolloutView, seen: Seen, race: RaceView) -> SetTraffic | None:
    """The split that takes the traffic from arms that left; None when that is done, or under way.

    As in a rollback, an arm that answers keeps its traffic until the baseline is healthy.
    """
    out = [arm for arm in rollout.arms[1:] if arm.dropped and _has_traffic(arm, seen)]
    if not out:
        return None
    under_way = not any(seen.desired_shares.get(arm.variant, 0) for arm in out)
    if under_way and _may_be_set(rollout, seen, seen.desired_shares):
        return None
    wanted = _wanted(rollout, race)
    if wanted is not None and _may_be_set(rollout, seen, wanted.shares):
        return wanted
    if not seen.answers(rollout.baseline) and any(seen.answers(arm.variant) for arm in out):
        return None
    lowered = racing_shares(rollout, seen.split)
    return None if _split(lowered.shares) == _split(seen.desired_shares) else lowered


def _has_traffic(arm: ArmView, seen: Seen) -> bool:
    return seen.split.get(arm.variant, 0) > 0 or seen.desired_shares.get(arm.variant, 0) > 0


def _may_be_set(rollout: RolloutView, seen: Seen, shares: Mapping[str, int]) -> bool:
    """Whether every candidate that grows in this split may grow now."""
    grows = _growing(rollout, seen, shares)
    frozen = (
        rollout.phase is not Phase.PROGRESSING
        or seen.hold is not None
        or seen.drift is not None
        or seen.routed is None
    )
    return not grows or (not frozen and all(seen.is_whole(arm.variant) for arm in grows))


def _growing(rollout: RolloutView, seen: Seen, shares: Mapping[str, int]) -> list[ArmView]:
    """The candidates that would have more than the router gives them now."""
    return [arm for arm in rollout.racing if shares.get(arm.variant, 0) > seen.split.get(arm.variant, 0)]


def _unready(arm: ArmView, seen: Seen) -> str:
    """`v2`, or `v2 (2 of 3 replicas are ready)`."""
    engine = seen.engine(arm.variant)
    return f"{arm.label} ({engine.short})" if engine is not None and engine.short else arm.label


def _wanted(rollout: RolloutView, race: RaceView) -> SetTraffic | None:
    """The split that the evidence asks for; None while the analysis does not know yet that an arm left."""
    shares = {arm.variant: race.wanted.get(arm.name, 0) for arm in rollout.racing}
    baseline = race.wanted.get(rollout.arms[0].name, 0)
    if baseline + sum(shares.values()) != FULL_SHARE_BP:
        return None
    return racing_shares(rollout, shares)


def _reweigh(rollout: RolloutView, seen: Seen, race: RaceView) -> Decision:
    """The shares follow the evidence, whole or not at all."""
    wanted = _wanted(rollout, race)
    where = stay(rollout, race.sentence, race.detail)
    if wanted is None or _split(wanted.shares) == _split(seen.desired_shares):
        if not race.skipped:
            return where
        return replace(where, title="Weights kept", detail=race.skipped, once=True)
    if not _may_be_set(rollout, seen, wanted.shares):
        grows = _growing(rollout, seen, wanted.shares)
        unready = [_unready(arm, seen) for arm in grows if not seen.is_whole(arm.variant)]
        held = f"The weights wait until {' and '.join(unready)} is known to be ready."
        return replace(where, next_step=f"{held} {race.detail}".strip())
    return _reweighted(rollout, seen, race, wanted)


def _reweighted(rollout: RolloutView, seen: Seen, race: RaceView, split: SetTraffic) -> Decision:
    return Decision(
        phase=transition(rollout.phase, Event.REWEIGHT),
        event=Event.REWEIGHT,
        step_index=rollout.step_index,
        reason=race.sentence,
        next_step=race.detail,
        effects=(split,),
        title="Weights recalculated",
        detail=_moves(rollout, seen.desired_shares, split.shares),
    )


def _moves(rollout: RolloutView, before: Mapping[str, int], after: Mapping[str, int]) -> str:
    """`v1 20% → 10%, v2 40% → 50%`: the arms whose share changes."""
    arms = (rollout.arms[0], *rollout.racing)
    changed = [arm for arm in arms if before.get(arm.variant, 0) != after.get(arm.variant, 0)]
    return ", ".join(
        f"{arm.label} {percent_of_bp(before.get(arm.variant, 0))} → {percent_of_bp(after.get(arm.variant, 0))}"
        for arm in changed
    )


def _split_words(rollout: RolloutView, shares: Mapping[str, int]) -> str:
    arms: Iterable[ArmView] = (rollout.arms[0], *rollout.racing)
    return ", ".join(f"{arm.label} {percent_of_bp(shares.get(arm.variant, 0))}" for arm in arms)


def _split(shares: Mapping[str, int]) -> dict[str, int]:
    """The shares above zero: two splits are alike when these are equal."""
    return {name: bp for name, bp in shares.items() if bp}
