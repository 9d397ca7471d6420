"""What comes out of the gates: five verdicts, each with its numbers and one sentence."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, Self

from rollouts.domain.gates.outage import Outage


class Verdict(StrEnum):
    """PASS      proven to be within the limit
    FAIL         proven to be worse (strict) or beyond the limit (tolerant); wins over PASS
    INCONCLUSIVE neither is proven yet
    NO_DATA      not measured, too little, or not comparable; never a pass
    ERROR        the source of the measurement itself is broken
    """

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NO_DATA = "no_data"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Axis:
    """The change on the axis all gates share: 0 is no worsening, 1 the limit, worse to the right.

    `low` or `high` is None where the interval is open on that side (nothing is known there yet).
    """

    estimate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateVerdict:
    """One gate, now.

    baseline, candidate     shares of events (or mean scores), standardised to the same intervals; None:
                            unknown
    change, low, high       estimate and always-valid interval, in `change_unit`; low or high None: open
    change_unit             "ratio" (candidate / baseline), "difference" (of shares or scores), "share"
                            (absolute), "number" (the candidate's own, against a fixed limit: no interval, no evidence)
    limit                   the limit in the same unit
    n_baseline, n_candidate what was counted: requests, answers, pairs, or readings of the candidate's number
    evidence                E of FAIL: odds against "not worse" (1 = none)
    evidence_pass           E of PASS: odds against "at or beyond the limit"
    share_of_rollback       this gate's part (0 to 1) of what it takes to roll the whole rollout back
    forecast_requests, forecast_minutes     of the candidate, until a PASS if things stay as they are; None:
                                            unknown
    finding                 something worth a look that no verdict rests on; empty when there is none
    sentence                one sentence, with numbers, for a release manager
    """

    key: str
    label: str
    kind: str
    mode: str
    required: bool
    verdict: Verdict
    baseline: float | None
    candidate: float | None
    change: float | None
    low: float | None
    high: float | None
    change_unit: Literal["ratio", "difference", "share", "number"]
    change_text: str
    interval_text: str
    limit: float
    limit_text: str
    axis: Axis
    n_baseline: int
    n_candidate: int
    evidence: float
    evidence_pass: float
    share_of_rollback: float
    forecast_requests: int | None
    forecast_minutes: float | None
    finding: str
    sentence: str

    def to_json(self) -> dict[str, Any]:
        data = dict(zip(NAMES, VALUES(self), strict=True))
        data["verdict"] = self.verdict.value
        data["axis"] = {"estimate": self.axis.estimate, "low": self.axis.low, "high": self.axis.high}
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        values = dict(data)
        values["verdict"] = Verdict(values["verdict"])
        values["axis"] = Axis(**values["axis"])
        return cls(**values)


NAMES = tuple(GateVerdict.__dataclass_fields__)
VALUES: Callable[[GateVerdict], tuple[Any, ...]] = operator.attrgetter(*NAMES)


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyVerdict:
    """The whole rollout, now.

    rollback            return to the baseline: the evidence reached the threshold, or the fast kill struck
    cause               the gate to name when the statistics rolled back, else None
    evidence            sum of weight * E over the gates; `threshold` is 1 / alpha
    budget              alpha: the probability that a rollout that changes nothing is ever rolled back by the
                        gates
    verdicts            one a gate, in the order of the policy
    all_required_pass   every required gate says PASS now (what promotion needs)
    fast_kill           why the fast kill struck, else None (outside alpha)
    reason              the sentence to show and record
    outage              of the baseline, while it lasts and in the first interval after it
    """

    rollback: bool
    cause: GateVerdict | None
    evidence: float
    threshold: float
    budget: float
    verdicts: tuple[GateVerdict, ...]
    all_required_pass: bool
    fast_kill: str | None
    reason: str
    outage: Outage | None = None

    def verdict(self, key: str) -> GateVerdict | None:
        """The verdict of the gate of that key."""
        return next((verdict for verdict in self.verdicts if verdict.key == key), None)

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "rollback": self.rollback,
            "cause": None if self.cause is None else self.cause.key,
            "evidence": self.evidence,
            "threshold": self.threshold,
            "budget": self.budget,
            "verdicts": [verdict.to_json() for verdict in self.verdicts],
            "all_required_pass": self.all_required_pass,
            "fast_kill": self.fast_kill,
            "reason": self.reason,
        }
        if self.outage is not None:
            data["outage"] = self.outage.to_json()
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        values = dict(data)
        verdicts = tuple(GateVerdict.from_json(verdict) for verdict in values["verdicts"])
        values["verdicts"] = verdicts
        if values.get("outage") is not None:
            values["outage"] = Outage.from_json(values["outage"])
        values["cause"] = next((verdict for verdict in verdicts if verdict.key == values["cause"]), None)
        return cls(**values)
