"""The life of a rollout: one enum of phases, one of events, one table. Read this first.

Why a rollout is paused is a reason (`PauseReason`), not a phase. The table is the only place that says what may
follow what; `docs/rollout-states.md` is generated from it.
"""

from __future__ import annotations

from enum import StrEnum

from controlplane.kernel.errors import IllegalTransition


class Phase(StrEnum):
    PENDING = "pending"
    PROVISIONING = "provisioning"
    PROGRESSING = "progressing"
    PAUSED = "paused"
    PROMOTING = "promoting"
    SUCCEEDED = "succeeded"
    ROLLING_BACK = "rolling-back"
    ROLLED_BACK = "rolled-back"
    CANCELLED = "cancelled"
    FAILED = "failed"
    SUPERSEDED = "superseded"


class Event(StrEnum):
    PROVISION = "provision"  # the loop takes the rollout up and launches what it needs
    START = "start"  # everything is ready and routed: traffic may move
    ADVANCE = "advance"  # the next step
    REWEIGHT = "reweight"  # a bandit's shares follow its evidence
    DROP = "drop"  # an arm of a bandit leaves for good; the rest goes on
    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"  # the last step is done, or a person promotes now
    FINISH = "finish"  # promotion is in force and read back
    ROLL_BACK = "roll-back"  # a gate, the fast kill, a person: traffic returns to the baseline
    RETURN = "return"  # the baseline has all traffic again, read back
    CANCEL = "cancel"  # before traffic moved
    GIVE_UP = "give-up"  # even the way back needs a person
    SUPERSEDE = "supersede"
    RESTORE = "restore"  # the database is an older copy than what serves, and a person kept what serves


class PauseReason(StrEnum):
    """Why a rollout is paused. A word that is not here was written by a newer version of Headgate, such as a kind of
    hold that this one does not know: it counts as PERSON, so that nothing goes on by itself and a person decides."""

    NONE = ""
    PERSON = "person"
    INCONCLUSIVE = "inconclusive"
    NO_DATA = "no-data"
    GLOBAL_STOP = "global-stop"
    DRIFT = "drift"  # the router's weights were changed by hand
    CHANGED = "changed"  # what runs of an arm was changed by hand: it is not what was asked for

    @classmethod
    def _missing_(cls, value: object) -> PauseReason | None:
        return cls.PERSON if isinstance(value, str) else None


P, E = Phase, Event

TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (P.PENDING, E.PROVISION): P.PROVISIONING,
    (P.PENDING, E.CANCEL): P.CANCELLED,
    (P.PENDING, E.ROLL_BACK): P.CANCELLED,
    (P.PENDING, E.SUPERSEDE): P.SUPERSEDED,
    (P.PROVISIONING, E.START): P.PROGRESSING,
    (P.PROVISIONING, E.DROP): P.PROVISIONING,
    (P.PROVISIONING, E.CANCEL): P.CANCELLED,
    (P.PROVISIONING, E.ROLL_BACK): P.ROLLING_BACK,
    (P.PROVISIONING, E.SUPERSEDE): P.SUPERSEDED,
    (P.PROGRESSING, E.ADVANCE): P.PROGRESSING,
    (P.PROGRESSING, E.REWEIGHT): P.PROGRESSING,
    (P.PROGRESSING, E.DROP): P.PROGRESSING,
    (P.PROGRESSING, E.PAUSE): P.PAUSED,
    (P.PROGRESSING, E.PROMOTE): P.PROMOTING,
    (P.PROGRESSING, E.ROLL_BACK): P.ROLLING_BACK,
    (P.PAUSED, E.RESUME): P.PROGRESSING,
    (P.PAUSED, E.PAUSE): P.PAUSED,
    (P.PAUSED, E.DROP): P.PAUSED,
    (P.PAUSED, E.PROMOTE): P.PROMOTING,
    (P.PAUSED, E.ROLL_BACK): P.ROLLING_BACK,
    (P.PROMOTING, E.FINISH): P.SUCCEEDED,
    (P.PROMOTING, E.ROLL_BACK): P.ROLLING_BACK,
    (P.SUCCEEDED, E.ROLL_BACK): P.ROLLING_BACK,
    (P.ROLLING_BACK, E.RETURN): P.ROLLED_BACK,
    (P.ROLLING_BACK, E.GIVE_UP): P.FAILED,
    (P.FAILED, E.ROLL_BACK): P.ROLLING_BACK,
    (P.PENDING, E.RESTORE): P.SUPERSEDED,
    (P.PROVISIONING, E.RESTORE): P.SUPERSEDED,
    (P.PROGRESSING, E.RESTORE): P.SUPERSEDED,
    (P.PAUSED, E.RESTORE): P.SUPERSEDED,
    (P.PROMOTING, E.RESTORE): P.SUPERSEDED,
    (P.ROLLING_BACK, E.RESTORE): P.SUPERSEDED,
}

ACTIVE = frozenset({P.PENDING, P.PROVISIONING, P.PROGRESSING, P.PAUSED, P.PROMOTING, P.ROLLING_BACK})
FINAL = frozenset(Phase) - ACTIVE
TRAFFIC_MOVES = frozenset({P.PROGRESSING, P.PAUSED, P.PROMOTING})


def allowed_events(phase: Phase) -> tuple[str, ...]:
    """The events that the table knows in this phase, in the enum's order."""
    return tuple(event.value for event in Event if (phase, event) in TRANSITIONS)


def transition(phase: Phase, event: Event) -> Phase:
    """The phase that follows. Raises IllegalTransition(state, event, allowed)."""
    try:
        return TRANSITIONS[(phase, event)]
    except KeyError:
        raise IllegalTransition(phase.value, event.value, allowed_events(phase)) from None
