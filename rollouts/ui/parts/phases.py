"""How the life of a rollout reads: one pill, one heading for the reason."""

from __future__ import annotations

from dataclasses import dataclass

from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.lifecycle.states import PauseReason, Phase
from rollouts.domain.strategies import strategy_of
from rollouts.models import Rollout


@dataclass(frozen=True, slots=True)
class Pill:
    """A status: tone (pass, warn, fail, info, mute), words, icon."""

    tone: str
    words: str
    icon: str


PAUSED_WORDS = {
    PauseReason.PERSON: ("Paused", "pause"),
    PauseReason.INCONCLUSIVE: ("Undecided", "circle-alert"),
    PauseReason.NO_DATA: ("No data", "circle-dashed"),
    PauseReason.GLOBAL_STOP: ("Stopped", "octagon-pause"),
    PauseReason.DRIFT: ("Set by hand", "unlink"),
    PauseReason.CHANGED: ("Changed by hand", "unlink"),
    PauseReason.NONE: ("Paused", "pause"),
}


def exposure_reached(rollout: Rollout, plan: Plan, now_seconds: float) -> bool:
    """True when its stage has its time and its requests, so that only evidence is missing."""
    if rollout.step_since is None:
        return False
    return strategy_of(plan).is_exposed(
        plan,
        stage=rollout.step_index,
        seconds=now_seconds - rollout.step_since.timestamp(),
        requests=rollout.step_requests,
    )


def pill_of_phase(rollout: Rollout, *, moving: Pill, place: str) -> Pill:
    """The status of a rollout in two or three words.

    moving  what its strategy says while traffic moves
    place   where it holds while it is paused: "at 25%"; empty where there is no such place
    """
    phase = Phase(rollout.phase)
    if phase is Phase.PROGRESSING:
        return moving
    if phase is Phase.PAUSED:
        words, icon = PAUSED_WORDS[PauseReason(rollout.pause_reason)]
        return Pill("warn", f"{words} {place}".strip(), icon)
    if phase is Phase.SUCCEEDED and rollout.watching:
        return Pill("info", "Promoted, watched", "clock")
    if phase is Phase.ROLLED_BACK and rollout.cause.startswith("launch:"):
        return Pill("fail", "Launch failed", "circle-x")
    return {
        Phase.PENDING: Pill("mute", "Waiting to start", "clock"),
        Phase.PROVISIONING: Pill("info", "Launching", "rocket"),
        Phase.PROMOTING: Pill("info", "Promoting", "flag"),
        Phase.SUCCEEDED: Pill("pass", "Promoted", "flag"),
        Phase.ROLLING_BACK: Pill("fail", "Rolling back", "undo-2"),
        Phase.ROLLED_BACK: Pill("fail", "Rolled back", "undo-2"),
        Phase.CANCELLED: Pill("mute", "Cancelled", "circle-slash"),
        Phase.FAILED: Pill("fail", "Needs a person", "circle-x"),
        Phase.SUPERSEDED: Pill("mute", "Superseded", "circle-slash"),
    }[phase]


def cause_words(rollout: Rollout) -> str:
    """What sent it back or ended it, short: `golden-set score`, `launch: no-memory`, `ana`."""
    kind, _, rest = rollout.cause.partition(":")
    if kind == "gate":
        labels = {gate.key: gate.label for gate in rollout.policy.gates}
        return labels.get(rest, rest).lower()
    if kind in ("launch", "workload"):
        return f"{kind}: {rest}"
    return {
        "person": "by a person",
        "fast-kill": "fast kill",
        "no-data": "no data",
        "gates": "all gates together",
        "inconclusive": "no verdict in time",
        "error": "gates could not be read",
        "bandit": "no candidate was better",
        "rollback-blocked": "the rollback is blocked",
        "superseded": "superseded",
    }.get(kind, kind)


def split_sentence(text: str) -> tuple[str, str]:
    """The first sentence and the rest. A point inside a number or a version does not end it."""
    for mark in (". ", ": ", "; "):
        head, found, rest = text.partition(mark)
        if found and len(head) <= 90:
            return head + mark.strip(), rest
    return text, ""
