"""What a bandit's page offers in each phase: the buttons, the arms to choose from, the engines that come up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from controlplane.access.models import User
from controlplane.access.roles import Action, refusal
from controlplane.kernel.words import percent_of_share
from rollouts.domain.bandits.verdict import BanditVerdict
from rollouts.domain.lifecycle.states import PauseReason, Phase
from rollouts.domain.record.intervals import BASELINE
from rollouts.models import Arm, Rollout
from rollouts.ui.bandit.arms import ArmLine
from rollouts.ui.parts.arm_words import colour_of
from rollouts.ui.parts.arms_table import workload_of
from rollouts.ui.parts.page_parts import LOG_LINES, ActionButton, LaunchNote

Launches = tuple[LaunchNote, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """An arm that a person may promote, with what is known of it."""

    arm: int
    name: str
    label: str
    variant: str
    facts: str


def actions_of(
    rollout: Rollout, lines: Sequence[ArmLine], user: User, *, stop_on: bool
) -> tuple[ActionButton, ...]:
    """What a person may ask for in this phase; an action that the role forbids carries the reason."""
    phase, baseline = Phase(rollout.phase), rollout.baseline.version.label
    control = refusal(user.role, Action.CONTROL_ROLLOUT)
    promote = refusal(user.role, Action.PROMOTE_NOW)
    found = []
    if phase in (Phase.PENDING, Phase.PROVISIONING):
        found.append(ActionButton("cancel", "Cancel", "circle-slash", "danger", control, False))
    if phase in (Phase.PROGRESSING, Phase.PAUSED, Phase.PROMOTING, Phase.FAILED) or (
        phase is Phase.SUCCEEDED and rollout.watching
    ):
        label = f"Return all to {baseline}"
        found.append(ActionButton("roll-back", label, "undo-2", "danger", control, False))
    if phase is Phase.PROGRESSING:
        found.append(ActionButton("pause", "Freeze weights", "pause", "", control, False))
    if phase is Phase.PAUSED and not stop_on and rollout.pause_reason != PauseReason.CHANGED.value:
        found.append(ActionButton("resume", "Resume weights", "play", "", control, True))
    racing = [line for line in lines if not line.out and not line.is_baseline]
    if phase in (Phase.PROGRESSING, Phase.PAUSED) and not stop_on and racing:
        found.append(ActionButton("choose", "Choose an arm…", "flag", "", promote, True))
    return tuple(found)


def choices_of(rollout: Rollout, verdict: BanditVerdict) -> tuple[Choice, ...]:
    """The candidates in the race, the likeliest best first."""
    known = {arm.name: arm for arm in rollout.arms.all() if arm.name != BASELINE and not arm.dropped_cause}
    racing = [verdict.arm(name) for name in verdict.survivors if name in known]
    racing.sort(key=lambda found: found.p_best, reverse=True)
    rows = []
    for found in racing:
        arm = known[found.name]
        reward = "no answer scored yet"
        if found.mean is not None:
            best = percent_of_share(found.p_best)
            reward = f"reward {found.mean:.3f} · thought to be the best with a probability of {best}"
        if found.expected_loss is not None:
            reward += f" · expected loss {found.expected_loss:.4f}"
        facts = f"{reward} · {found.gates_passed} of {found.gates_required} gates pass"
        label = arm.variant.version.label
        rows.append(Choice(colour_of(arm.name), arm.name, label, arm.variant.name, facts))
    return tuple(rows)


def launches_of(rollout: Rollout, arms: Sequence[Arm]) -> Launches:
    """Engines that come up, and those that did not: the arms whose launch failed, or all when the rollout did."""
    found = []
    for arm in arms:
        if arm.name == BASELINE:
            continue
        workload = workload_of(arm.variant)
        if workload is None:
            continue
        log = tuple(str(line) for line in workload.log_tail[-LOG_LINES:])
        if arm.dropped_cause == "launch" or workload.phase == "failed":
            words = arm.dropped_sentence or rollout.cause_sentence or workload.message
            found.append(LaunchNote(arm.variant.name, True, words, "The others go on without it.", log))
        elif rollout.phase == Phase.PROVISIONING.value and workload.phase != "ready":
            words = workload.message or "waiting for the cluster"
            found.append(LaunchNote(arm.variant.name, False, f"{words[:1].upper()}{words[1:]}.", "", log))
    return tuple(found)
