"""Proportions (errors, requests over an SLO, thumbs down): the stratified two-sample e-process.

Every interval is a stratum of its own: only the arms' counts *within* it are compared, so drift that both
arms share, ramps and changing weights do no harm. See `projection` for the arithmetic and why it is valid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.gates import checks
from rollouts.domain.gates.evidence import Starts, Wealth
from rollouts.domain.gates.projection import (
    FAIL_MULTIPLIERS,
    PASS_MULTIPLIERS,
    SMALLEST,
    log_increments,
)

Proof = Literal["fail", "pass"]
DECISIONS = ("fail", "pass")
STARTS = ("single", "spread")


@dataclass(frozen=True, slots=True, init=False)
class ProportionProcess:
    """Evidence against one null hypothesis on two proportions.

    decision "fail" tests H: p_c <= ratio * p_b + delta; its rejection proves a regression.
    decision "pass" tests H: p_c >= ratio * p_b + delta; its rejection proves the limit is kept.
    Reject when log_e >= log(1/alpha), whenever and however often you look.

    ratio, delta                    the boundary; ratio 0 is an absolute limit and needs 0 < delta < 1
    prior_events, prior_trials      the first guess of the baseline's rate (it steers power, never validity)
    starts                          "spread" finds late regressions as fast as early ones: call `start_again`
                                    now and then; the first start (weight 1/2) is made at the first update at
                                    the latest
    """

    ratio: float
    delta: float
    decision: Proof
    baseline_events: float
    baseline_trials: float
    evidence: Wealth

    def __init__(
        self,
        *,
        ratio: float = 1.0,
        delta: float = 0.0,
        decision: Proof = "fail",
        prior_events: float = 0.5,
        prior_trials: float = 50.0,
        starts: Starts = "single",
    ) -> None:
        checks.one_of(decision, DECISIONS, field="decision")
        checks.one_of(starts, STARTS, field="starts")
        ratio, delta = _checked_limit(ratio, delta)
        events = checks.between(prior_events, 0, 1e15, field="prior_events", low_open=True)
        trials = checks.between(prior_trials, 0, 1e15, field="prior_trials", low_open=True)
        if events >= trials:
            raise InvalidInput(
                f"prior_events is {events:g}; it must be below prior_trials.", field="prior_events"
            )
        self._set(ratio, delta, decision, events, trials, Wealth.empty(len(multipliers_of(decision)), starts))

    def _set(
        self, ratio: float, delta: float, decision: Proof, events: float, trials: float, evidence: Wealth
    ) -> None:
        put = object.__setattr__
        put(self, "ratio", ratio)
        put(self, "delta", delta)
        put(self, "decision", decision)
        put(self, "baseline_events", events)
        put(self, "baseline_trials", trials)
        put(self, "evidence", evidence)

    def _with(self, events: float, trials: float, evidence: Wealth) -> Self:
        new = object.__new__(type(self))
        new._set(self.ratio, self.delta, self.decision, events, trials, evidence)
        return new

    def update(
        self,
        n_candidate: int,
        events_candidate: int,
        n_baseline: int,
        events_baseline: int,
        temper: float = 1.0,
        *,
        usual: bool = True,
    ) -> Self:
        """The state after one interval of counts.

        temper      multiplies the log factors (0 < temper <= 1), for over-dispersed counts
        usual       False: the baseline's rate in this interval says nothing about its usual one
        Without requests of one arm nothing is learned about the difference (an absolute limit needs the
        candidate only). Raises InvalidInput naming the argument.
        """
        e_c, n_c = checks.events_of(
            events_candidate, n_candidate, events_field="events_candidate", trials_field="n_candidate"
        )
        e_b, n_b = checks.events_of(
            events_baseline, n_baseline, events_field="events_baseline", trials_field="n_baseline"
        )
        checks.between(temper, 0, 1, field="temper", low_open=True)
        evidence = self.evidence
        if n_c and (n_b or self.ratio == 0):
            increments = log_increments(
                self.baseline_rate,
                n_c,
                e_c,
                n_b,
                e_b,
                ratio=self.ratio,
                delta=self.delta,
                fail=self.decision == "fail",
                multipliers=multipliers_of(self.decision),
            )
            evidence = evidence.multiply([temper * increment for increment in increments])
        if not usual:
            return self._with(self.baseline_events, self.baseline_trials, evidence)
        return self._with(self.baseline_events + e_b, self.baseline_trials + n_b, evidence)

    def start_again(self) -> Self:
        """One more start (spread only): from here on a late regression is found as if the rollout began
        now.
        """
        if not self.evidence.spread:
            raise InvalidInput('start_again needs starts="spread".', field="starts")
        return self._with(self.baseline_events, self.baseline_trials, self.evidence.start())

    @property
    def baseline_rate(self) -> float:
        """The estimate that the next interval's alternatives are built on."""
        return min(max(self.baseline_events / self.baseline_trials, SMALLEST), 1 - SMALLEST)

    @property
    def log_e(self) -> float:
        """log of the evidence against the null hypothesis; 0 is none."""
        return self.evidence.log_e

    def to_json(self) -> dict[str, Any]:
        return {
            "ratio": self.ratio,
            "delta": self.delta,
            "decision": self.decision,
            "baseline_events": self.baseline_events,
            "baseline_trials": self.baseline_trials,
            "evidence": self.evidence.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What `to_json` gave. Raises InvalidInput naming the field for what is no such thing."""
        checks.exactly(data, NAMES, field="")
        evidence = Wealth.from_json(data["evidence"])
        decision: Proof = data["decision"]
        checks.one_of(decision, DECISIONS, field="decision")
        if len(evidence.logs) != len(multipliers_of(decision)):
            raise InvalidInput(
                f"evidence.logs holds {len(evidence.logs)} alternatives.", field="evidence.logs"
            )
        ratio, delta, events, trials = [checks.finite(data[name], field=name) for name in NUMBERS]
        process = object.__new__(cls)
        process._set(ratio, delta, decision, events, trials, evidence)
        return process


NAMES = tuple(ProportionProcess.__dataclass_fields__)
NUMBERS = ("ratio", "delta", "baseline_events", "baseline_trials")


def multipliers_of(decision: Proof) -> tuple[float, ...]:
    """The odds multipliers of the alternatives that a decision is built on."""
    return FAIL_MULTIPLIERS if decision == "fail" else PASS_MULTIPLIERS


def _checked_limit(ratio: object, delta: object) -> tuple[float, float]:
    r = checks.between(ratio, 0, 1e6, field="ratio")
    d = checks.between(delta, -1, 1, field="delta", low_open=True, high_open=True)
    if r == 0 and d <= 0:
        raise InvalidInput(
            f"delta is {d:g}; with ratio 0 (an absolute limit) it must be above 0.", field="delta"
        )
    if r > 0 and r + d <= 0:
        raise InvalidInput(
            f"delta is {d:g}; with ratio {r:g} the limit would be below 0 always.", field="delta"
        )
    return r, d
