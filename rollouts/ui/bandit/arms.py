"""The arms of a bandit as rows: where each stands in the race, in numbers and one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from controlplane.kernel.words import odds, percent_of_bp, percent_of_share
from controlplane.web.ridges import Ridge
from rollouts.domain.bandits.verdict import ArmVerdict, BanditVerdict
from rollouts.domain.gates.verdict import FamilyVerdict
from rollouts.domain.record.intervals import BASELINE
from rollouts.models import Arm
from rollouts.ui.parts.arm_words import colour_of
from rollouts.ui.parts.phases import Pill

CAUSES: Mapping[str, Pill] = {
    "evidence": Pill("mute", "Eliminated", "circle-x"),
    "guardrail": Pill("fail", "Dropped: guardrail", "circle-x"),
    "fast-kill": Pill("fail", "Dropped: fast kill", "circle-x"),
    "launch": Pill("mute", "Dropped: launch", "unplug"),
    "workload": Pill("mute", "Dropped: engine", "unplug"),
    "person": Pill("mute", "Taken out", "circle-slash"),
}


@dataclass(frozen=True, slots=True)
class ArmLine:
    """One arm. `left_at` is when it left the race; `moving_to` the share it should have when that differs."""

    arm: int
    name: str
    variant: str
    version: str
    share: str
    share_percent: float
    moving_to: str
    scored: str
    reward: str
    reward_interval: str
    p_best: str
    loss: str
    evidence: float
    evidence_words: str
    evidence_label: str
    gates: Pill | None
    state: Pill
    left_at: datetime | None
    out: bool
    sentence: str
    mean: str
    interval: str

    @property
    def is_baseline(self) -> bool:
        return self.name == BASELINE

    @property
    def tone(self) -> str:
        """Of the evidence bar: the arm's own colour."""
        return f"a{self.arm}"


def arm_line(arm: Arm, verdict: BanditVerdict, left_at: datetime | None, *, promoted: bool) -> ArmLine:
    """The row of one arm. `promoted`: it has all the traffic now, for good."""
    found = verdict.arm(arm.name)
    label = arm.variant.version.label
    cause = arm.dropped_cause or found.cause
    out = bool(cause)
    evidence = odds(found.evidence)
    ipw = found.ipw
    return ArmLine(
        arm=colour_of(arm.name),
        name=arm.name,
        variant=arm.variant.name,
        version=label,
        share=short_share(arm.observed_bp),
        share_percent=arm.observed_bp / 100,
        moving_to=short_share(arm.desired_bp) if arm.desired_bp != arm.observed_bp else "",
        scored=f"{found.scored:,}",
        reward="no data" if ipw is None else f"{ipw.mean:.3f}",
        reward_interval="" if ipw is None else f"{ipw.low:.3f} – {ipw.high:.3f}",
        p_best="out" if out else percent_of_share(found.p_best) if found.scored else "no data",
        loss="" if out else _loss(found.expected_loss),
        evidence=found.evidence,
        evidence_words=evidence,
        evidence_label=(
            f"{label}: the evidence that another arm is better is {evidence} to 1, and at {odds(verdict.threshold)} to "
            "1 it leaves; log scale"
        ),
        gates=gates_pill(found, verdict.gates.get(arm.name)),
        state=_state(cause, promoted=promoted, won=verdict.winner == arm.name),
        left_at=arm.dropped_at or left_at,
        out=out,
        sentence=arm.dropped_sentence or (found.sentence if out else ""),
        mean="no data" if found.mean is None else f"{found.mean:.3f}",
        interval="" if found.low is None or found.high is None else f"{found.low:.3f} – {found.high:.3f}",
    )


def _loss(expected: float | None) -> str:
    if expected is None:
        return ""
    return "loses < 0.0001" if expected < 1e-4 else f"loses {expected:.4f}"


def short_share(basis_points: int) -> str:
    """To a tenth of a percent: the shares of a bandit are seldom round."""
    return percent_of_bp(round(basis_points, -1))


def _state(cause: str, *, promoted: bool, won: bool) -> Pill:
    if promoted:
        return Pill("pass", "Promoted", "flag")
    if cause:
        return CAUSES.get(cause, Pill("mute", f"Dropped: {cause}", "circle-x"))
    return Pill("pass", "Winner", "flag") if won else Pill("info", "In the race", "activity")


def gates_pill(arm: ArmVerdict, family: FamilyVerdict | None) -> Pill | None:
    """`2 of 3 pass`, of the required gates; None for the baseline, which they compare with."""
    if family is None:
        return None
    words = f"{arm.gates_passed} of {arm.gates_required} pass"
    if family.rollback:
        return Pill("fail", words, "circle-x")
    if arm.gates_passed == arm.gates_required:
        return Pill("pass", words, "circle-check")
    waits = arm.state == "racing" and any(gate.n_candidate for gate in family.verdicts)
    return Pill("warn" if waits else "mute", words, "")


def ridge_of(line: ArmLine, found: ArmVerdict) -> Ridge:
    """Its posterior, with a name and whether it is out."""
    words = ["baseline"] * line.is_baseline + ["out"] * line.out
    return Ridge(line.arm, line.version, " · ".join(words) or line.name, found.mean, found.sd, line.out)


def rewards_label(rows: list[tuple[ArmLine, ArmVerdict]]) -> str:
    """The ridges in words: who leads, who follows, who is out."""
    known = [(line, found) for line, found in rows if found.mean is not None]
    if not known:
        return "What is believed of the reward of each arm: nothing yet, no answer is scored."
    racing = [row for row in known if not row[0].out]
    racing.sort(key=lambda row: row[1].mean or 0.0, reverse=True)
    parts = [f"{line.version} {line.mean}" for line, _ in racing[1:]]
    lead = f"{racing[0][0].version} leads at {racing[0][0].mean}" if racing else "no arm is in the race"
    out = [f"{line.version} at {line.mean}" for line, _ in known if line.out]
    text = ", ".join([lead, *parts])
    return (
        f"What is believed of the reward of each arm, without ups and downs that all arms share: {text}"
        + (f"; out of the race: {', '.join(out)}" if out else "")
        + "."
    )
