"""When a bandit stops, as three lines with what each still waits for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from controlplane.kernel.words import clock_text, count_text, duration_of_seconds, odds
from rollouts.domain.bandits.verdict import BanditVerdict
from rollouts.domain.gates.verdict import GateVerdict, Verdict
from rollouts.domain.lifecycle.states import FINAL, PauseReason, Phase
from rollouts.models import Rollout
from rollouts.ui.bandit.arms import ArmLine
from rollouts.ui.parts.arm_words import either_of


@dataclass(frozen=True, slots=True)
class StopLine:
    """One condition: `lead` **`strong`** `rest`, with a hint below. `spoken` says the icon in words."""

    icon: str
    tone: str
    spoken: str
    lead: str
    strong: str = ""
    rest: str = ""
    hint: str = ""

    @property
    def css(self) -> str:
        return f"ico-s {self.tone}"


def stop_lines(
    rollout: Rollout, verdict: BanditVerdict, lines: Sequence[ArmLine], now: datetime
) -> tuple[StopLine, ...]:
    """One arm left, all its gates passed, and what happens at the deadline otherwise."""
    racing = [line for line in lines if not line.out]
    arms = f"{count_text(len(racing), 'arm')} left"
    rule = f"An arm leaves when the evidence against it reaches {odds(verdict.threshold)} to 1 (1/α)."
    sole = StopLine("activity", "info", "Open: ", "Sole survivor: ", arms, ", needs 1", rule)
    if len(racing) <= 1:
        sole = StopLine("circle-check", "pass", "Met: ", "Sole survivor: ", arms, "", rule)
    waiting = [
        (line, gate)
        for line in racing
        if line.name in verdict.gates
        for gate in verdict.gates[line.name].verdicts
        if gate.required and gate.verdict is not Verdict.PASS
    ]
    return (
        sole,
        _gates_line(verdict, racing, waiting),
        _deadline_line(rollout, racing, now, gates_open=bool(waiting)),
    )


def _gates_line(
    verdict: BanditVerdict, racing: Sequence[ArmLine], waiting: Sequence[tuple[ArmLine, GateVerdict]]
) -> StopLine:
    lead = "All its gates pass: "
    asked = [verdict.arm(line.name) for line in racing if line.name in verdict.gates]
    if not asked:
        return StopLine("circle-dashed", "mute", "Unknown: ", lead, "no candidate is left")
    labels = {line.name: line.version for line in racing}
    words = [f"{labels[arm.name]} {arm.gates_passed} of {arm.gates_required}" for arm in asked]
    rest = "".join(f", {word}" for word in words[1:])
    if not waiting:
        return StopLine("circle-check", "pass", "Met: ", lead, words[0], rest)
    line, gate = waiting[0]
    hint = f"{line.version}: {gate.sentence.partition(':')[0].rstrip('.')}."
    return StopLine("circle-alert", "warn", "Waiting: ", lead, words[0], rest, hint)


def _deadline_line(
    rollout: Rollout, racing: Sequence[ArmLine], now: datetime, *, gates_open: bool
) -> StopLine:
    several = len(racing) > 1
    if several:
        answer = either_of([line.version for line in racing])
        hint = f"Then the answer is “{answer}”, and you choose."
    else:
        hint = "Then it is held, and a person decides."
    if gates_open and rollout.policy.on_inconclusive == "rollback":
        hint = "If gates are open then, the policy rolls back. " + (hint if several else "")
    phase, limit = Phase(rollout.phase), rollout.parsed_plan.deadline_seconds
    what = "if several remain" if several else "if its gates are open"
    if phase in FINAL:
        return StopLine("flag", "mute", "Over: ", "It has ended", hint=rollout.reason)
    if phase is Phase.PROGRESSING:
        ends = rollout.phase_since + timedelta(seconds=limit)
        return StopLine("circle-dashed", "mute", "Later: ", f"{_when(ends, now)}, {what}", hint=hint)
    if phase is Phase.PAUSED and rollout.pause_reason == PauseReason.INCONCLUSIVE.value:
        lead = f"{duration_of_seconds(limit)} are over" + (", several remain" if several else "")
        return StopLine("circle-alert", "warn", "Now: ", lead, hint=hint)
    return StopLine(
        "circle-dashed",
        "mute",
        "Later: ",
        f"After {duration_of_seconds(limit)} of learning, {what}",
        hint=hint,
    )


def _when(at: datetime, now: datetime) -> str:
    days = (at.date() - now.date()).days
    if days == 0:
        return f"At {at:%H:%M}"
    return f"At {at:%H:%M} tomorrow" if days == 1 else f"On {clock_text(at, now=now)} at {at:%H:%M}"
