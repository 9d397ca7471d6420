"""What brings the world back to what was decided, and decides nothing: no rollout ends, no share moves.

The one exception is the first route of an endpoint, which has no share that could be moved: its stable variant gets
all traffic once it is ready. None of it is evidence, because nothing of it depends on any: the history tells the first
route, and effects tell every launch.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from rollouts.domain.engines import EngineView
from rollouts.domain.lifecycle.decision import RolloutView
from rollouts.domain.lifecycle.effects import AnyEffect, EnsureWorkload, HoldScaleIn, SetTraffic, WriteBack
from rollouts.domain.lifecycle.plan import FULL_SHARE_BP
from rollouts.domain.lifecycle.states import Phase


def keep_stable(
    stable: str,
    engine: EngineView | None,
    *,
    wanted: bool,
    launch_waits: bool,
    desired_shares: Mapping[str, int],
) -> tuple[AnyEffect, ...]:
    """Of an endpoint without a rollout: its stable variant runs, and has all traffic from the moment it is ready.

    engine          of the stable variant; None when it could not be read
    wanted          whether it is among the variants that are to run
    launch_waits    a launch was asked for and is not done yet
    desired_shares  what the endpoint was last asked to do; empty when it never had a route
    """
    run = () if wanted or launch_waits else (EnsureWorkload(stable),)
    if engine is None or not engine.is_ready or desired_shares:
        return run
    return (
        *run,
        SetTraffic({stable: FULL_SHARE_BP}, stable),
        WriteBack(stable, stable, "serving"),
    )


def relaunch(
    wanted: Collection[str], known: Collection[str], asked: Collection[str]
) -> tuple[AnyEffect, ...]:
    """What is to run and the cluster does not know is asked for again.

    wanted  variants that are to run and have not failed for good
    known   what the cluster knows, in whatever phase
    asked   variants whose launch or end is under way already
    """
    return tuple(EnsureWorkload(name) for name in wanted if name not in known and name not in asked)


def scale_in(
    rollout: RolloutView | None,
    held: Mapping[str, bool | None],
    wanted: Collection[str],
    asked: Mapping[str, bool],
) -> tuple[AnyEffect, ...]:
    """No replica of an arm is taken away while it is compared, promoted or watched: whoever gets all traffic again must
    have room for it, and an arm that shrinks is measured under another load. Afterwards it may be.

    rollout  that goes on; None: there is none
    held     by variant that the cluster knows, what it says; None where nothing scales it
    wanted   variants that are to run. Of one that is drained nothing is changed: it ends with what it has
    asked    what was asked for of a variant and is not done yet
    """
    keeps = set()
    if rollout is not None and rollout.phase is not Phase.PENDING:
        keeps = {rollout.baseline, *(arm.variant for arm in rollout.racing)}
    due = []
    for name in wanted:
        on, now = name in keeps, held.get(name)
        if now is not None and on is not asked.get(name, now):
            due.append(HoldScaleIn(name, on))
    return tuple(due)
