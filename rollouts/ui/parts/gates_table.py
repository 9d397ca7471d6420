"""The gates of a rollout as rows on one axis: 0 is no worsening, 1 the limit, worse to the right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controlplane.kernel.words import MINUS, NO_DATA, odds, percent_or_no_data
from rollouts.domain.gates.fixed_limits import number_text
from rollouts.domain.gates.policy import GatePolicy, GateSpec
from rollouts.domain.gates.verdict import FamilyVerdict, GateVerdict, Verdict
from rollouts.ui.parts.gate_words import hint_of, unit_of

LOOK = {
    Verdict.PASS: ("pass", "Pass", "circle-check"),
    Verdict.FAIL: ("fail", "Fail", "circle-x"),
    Verdict.INCONCLUSIVE: ("warn", "Inconclusive", "circle-alert"),
    Verdict.NO_DATA: ("mute", "No data", "circle-dashed"),
    Verdict.ERROR: ("fail", "Error", "unplug"),
}


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """One gate as the page shows it. `tone` is pass, warn, fail or mute."""

    key: str
    label: str
    hint: str
    strict: bool
    fixed: bool
    required: bool
    baseline: str
    candidate: str
    change: str
    limit: str
    exposure: str
    counted: str
    tone: str
    verdict: str
    icon: str
    sentence: str
    finding: str
    estimate: float | None
    low: float | None
    high: float | None
    picture: str


@dataclass(frozen=True, slots=True)
class GatesTable:
    """All gates with the rollback evidence they add up to. `counts` are (tone, words, icon) for the
    heading.
    """

    rows: tuple[VerdictRow, ...]
    counts: tuple[tuple[str, str, str], ...]
    evidence: float
    evidence_words: str
    threshold: float
    evidence_tone: str
    alpha: float
    largest: str
    fast_kill: str
    measured: bool

    def mark(self, row: VerdictRow) -> str:
        """Which rows stand out: those that fail, and only without one those that are still open."""
        if row.tone == "fail":
            return "bad"
        failing = any(other.tone == "fail" for other in self.rows)
        return "attn" if row.tone == "warn" and not failing else ""

    @property
    def marked_rows(self) -> list[tuple[VerdictRow, str]]:
        return [(row, self.mark(row)) for row in self.rows]


def gates_table(policy: GatePolicy, verdicts: Mapping[str, Any]) -> GatesTable:
    """The stored family verdict of a rollout; before the first interval every gate says that it has no
    data.
    """
    return family_table(policy, FamilyVerdict.from_json(verdicts) if verdicts else None)


def family_table(policy: GatePolicy, family: FamilyVerdict | None) -> GatesTable:
    """The same for a verdict that was read already; None before the first."""
    known = {} if family is None else {verdict.key: verdict for verdict in family.verdicts}
    rows = tuple(
        _row(gate, known[gate.key]) if gate.key in known else _empty_row(gate) for gate in policy.gates
    )
    evidence = family.evidence if family is not None else 1.0
    threshold = 1 / policy.alpha
    shares = sorted(known.values(), key=lambda verdict: verdict.share_of_rollback, reverse=True)
    tone = "fail" if evidence >= threshold else "warn" if evidence > 1.5 else "pass"
    return GatesTable(
        rows=rows,
        counts=_counts(rows),
        evidence=evidence,
        evidence_words=odds(evidence),
        threshold=threshold,
        evidence_tone=tone,
        alpha=policy.alpha,
        largest=shares[0].label if shares and evidence > 1.05 else "",
        fast_kill=(family.fast_kill or "") if family is not None else "",
        measured=family is not None,
    )


def _row(gate: GateSpec, verdict: GateVerdict) -> VerdictRow:
    tone, words, icon = LOOK[verdict.verdict]
    change = verdict.change_text or "no data"
    mode = "a fixed limit" if gate.fixed else f"{gate.mode} gate"
    marks = "marks: no worsening and limit" if gate.mode == "strict" else "mark: limit"
    return VerdictRow(
        key=gate.key,
        label=gate.label,
        hint=hint_of(gate),
        strict=gate.mode == "strict",
        fixed=gate.fixed,
        required=gate.required,
        baseline=_value(gate, verdict.baseline),
        candidate=_value(gate, verdict.candidate),
        change=change,
        limit=verdict.limit_text,
        exposure=f"{verdict.n_candidate:,}",
        counted=unit_of(gate),
        tone=tone,
        verdict=words,
        icon=icon,
        sentence=verdict.sentence,
        finding=verdict.finding,
        estimate=verdict.axis.estimate,
        low=verdict.axis.low,
        high=verdict.axis.high,
        picture=(
            f"{gate.label}: change {change}, limit {verdict.limit_text}, {words.lower()}; {mode}, {marks}"
        ),
    )


def _empty_row(gate: GateSpec) -> VerdictRow:
    tone, words, icon = LOOK[Verdict.NO_DATA]
    return VerdictRow(
        key=gate.key,
        label=gate.label,
        hint=hint_of(gate),
        strict=gate.mode == "strict",
        fixed=gate.fixed,
        required=gate.required,
        baseline="",
        candidate="",
        change="",
        limit=gate.limit_text(),
        exposure="0",
        counted=unit_of(gate),
        tone=tone,
        verdict=words,
        icon=icon,
        sentence="",
        finding="",
        estimate=None,
        low=None,
        high=None,
        picture=f"{gate.label}: nothing measured yet, limit {gate.limit_text()}",
    )


def _value(gate: GateSpec, value: float | None) -> str:
    if value is None:
        return NO_DATA
    if gate.fixed:
        return number_text(value).replace("-", MINUS)
    return f"{value:.3f}".replace("-", MINUS) if gate.kind == "paired" else percent_or_no_data(value)


def _counts(rows: tuple[VerdictRow, ...]) -> tuple[tuple[str, str, str], ...]:
    found = []
    for verdict in (Verdict.FAIL, Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.NO_DATA, Verdict.ERROR):
        tone, words, icon = LOOK[verdict]
        number = sum(row.verdict == words for row in rows)
        if number:
            found.append((tone, f"{number} {words.lower()}", icon))
    return tuple(found)
