"""Whole policies for many rollouts at once: `GatesState` on numpy arrays, for simulations and evidence.

What an interval may say, the outage of a baseline, the late rule, restarts, bursts and the one budget are those of
`reading`, `outage`, `late`, `family` and `fastkill`; tests hold every verdict here against the scalar form.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.gates.batch import (
    Array,
    BlocksBatch,
    Mask,
    PairedBatch,
    ProportionBatch,
    family_log_evidence,
)
from rollouts.domain.gates.censoring import CLEARLY_OTHER
from rollouts.domain.gates.fast_kill_rules import FastKill
from rollouts.domain.gates.late import ShareTrail
from rollouts.domain.gates.latency import LOAD_TOLERANCE, Directions, difference_score
from rollouts.domain.gates.outage import FEWEST_FAILURES, WINDOW_SECONDS
from rollouts.domain.gates.policy import TEMPERED, GatePolicy, GateSpec
from rollouts.domain.gates.reading import PASS_SHARE_BP

BURSTS = ("errors", "refused", "abandoned")


@dataclass(frozen=True, slots=True)
class TimedBatch:
    """`LatencyCounts` against one SLO; arrays of shape (size,)."""

    total: Array
    over: Array
    left: Array
    left_over: Array


@dataclass(frozen=True, slots=True)
class ArmBatch:
    """`ArmCounts` of one arm in one interval of many rollouts; arrays of shape (size,).

    refused, abandoned      None: outcomes were not counted, as in evidence of an earlier version
    timed                   by the key of the latency gate
    """

    requests: Array
    errors: Array
    arrived: Array
    ready: Array
    refused: Array | None = None
    abandoned: Array | None = None
    timed: Mapping[str, TimedBatch] = field(default_factory=dict)
    answers: Array | None = None
    thumbs_down: Array | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """The reading of one gate: counts, and in which rollouts they are known and may speak which way."""

    n_candidate: Array
    e_candidate: Array
    n_baseline: Array
    e_baseline: Array
    known: Mask
    may_fail: Mask
    may_pass: Mask
    usual: Mask
    censored: tuple[Array, Array] | None = None


class GateBatch:
    """`GateTrack` of `size` rollouts, without what is only shown; `learn` changes it in place. `passing` False: no
    evidence for PASS is kept, which takes most of the time.
    """

    def __init__(self, spec: GateSpec, size: int, *, passing: bool = True) -> None:
        self.spec, self.size, self.may_pass = spec, size, passing
        (fail_ratio, fail_delta), (pass_ratio, pass_delta) = spec.fail_limit, spec.pass_limit
        self.failing: ProportionBatch | PairedBatch
        self.passing: ProportionBatch | PairedBatch
        if spec.kind == "paired":
            self.failing = PairedBatch(size, margin=fail_delta, decision="fail", spread=True)
            self.passing = PairedBatch(size, margin=pass_delta, decision="pass")
        else:
            self.failing = ProportionBatch(size, fail_ratio, fail_delta, "fail", spread=True)
            self.passing = ProportionBatch(size, pass_ratio, pass_delta, "pass")
        self.blocks = BlocksBatch(size) if spec.kind in TEMPERED else None
        self.n_candidate, self.n_baseline, self.silent = (np.zeros(size) for _ in range(3))
        self.censored_score, self.censored_variance = np.zeros(size), np.zeros(size)
        self.has_passed = np.zeros(size, dtype=bool)

    def learn(self, said: Said, seconds: float, share_bp: int, beta: float) -> None:
        """One interval of counts."""
        assert isinstance(self.failing, ProportionBatch)
        assert isinstance(self.passing, ProportionBatch)
        n_c, e_c, n_b, e_b = (
            np.where(said.known, values, 0.0)
            for values in (said.n_candidate, said.e_candidate, said.n_baseline, said.e_baseline)
        )
        temper = self.blocks.temper if self.blocks is not None else 1.0
        self.failing.update(n_c, e_c, n_b, e_b, temper, said.known & said.may_fail, said.usual)
        may_pass = said.known & said.may_pass & (self.may_pass and share_bp >= PASS_SHARE_BP)
        self.passing.update(n_c, e_c, n_b, e_b, temper, may_pass, said.usual)
        if self.blocks is not None:
            self.blocks.update(seconds, n_c, e_c, n_b, e_b, said.known & said.usual)
        if said.censored is not None:
            self._censor(said, n_c, n_b)
        self.n_candidate += n_c
        self.n_baseline += n_b
        self.silent = np.where(said.known, 0.0, self.silent + seconds)
        self._note_pass(said.known, beta)

    def learn_pairs(self, pairs: Sequence[tuple[Array, Array]], seconds: float, beta: float) -> None:
        """The pairs of one interval: scores of baseline and candidate."""
        assert isinstance(self.failing, PairedBatch)
        assert isinstance(self.passing, PairedBatch)
        for score_baseline, score_candidate in pairs:
            self.failing.update(score_baseline, score_candidate)
            if self.may_pass:
                self.passing.update(score_baseline, score_candidate)
        self.n_candidate += len(pairs)
        self.n_baseline += len(pairs)
        self.silent = np.zeros(self.size) if pairs else self.silent + seconds
        if pairs:
            self._note_pass(np.ones(self.size, dtype=bool), beta)

    def _censor(self, said: Said, n_c: Array, n_b: Array) -> None:
        assert said.censored is not None
        lost_c, lost_b = (np.where(said.known, values, 0.0) for values in said.censored)
        both = said.known & (n_c + lost_c > 0) & (n_b + lost_b > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            score, variance = difference_score(n_c + lost_c, lost_c, n_b + lost_b, lost_b)
        self.censored_score += np.where(both, score, 0.0)
        self.censored_variance += np.where(both, variance, 0.0)

    def _note_pass(self, known: Mask, beta: float) -> None:
        log_e = self.passing.log_e
        now = (log_e >= math.log(1 / beta)) | (self.has_passed & (log_e >= 0))
        self.has_passed = np.where(known, now, self.has_passed)

    @property
    def differs(self) -> Mask:
        """Where the arms clearly lose other shares of their requests before they can be timed."""
        factor = self.blocks.factor if self.blocks is not None else 1.0
        bound = CLEARLY_OTHER * np.sqrt(self.censored_variance * factor)
        return np.asarray((self.censored_variance > 0) & (np.abs(self.censored_score) > bound))

    def passes(self, policy: GatePolicy) -> Mask:
        """Where the gate passes; a FAIL, which wins over it, is the family's to say."""
        kept = self.has_passed & ~self.differs
        fresh = self.silent < policy.stale_after_seconds
        fewest = self.n_candidate if self.spec.absolute else np.minimum(self.n_candidate, self.n_baseline)
        return np.asarray(kept & (fresh | (self.spec.kind == "paired")) & (fewest >= self.spec.min_exposure))


@dataclass(slots=True)
class WindowBatch:
    """`Window` of many rollouts: rows of (seconds, candidate, baseline), each arm an array (counts, size) in the order
    requests, errors, arrived, refused, abandoned.
    """

    rows: list[tuple[float, Array, Array]] = field(default_factory=list)

    def add(self, seconds: float, candidate: ArmBatch, baseline: ArmBatch, keep_seconds: float) -> None:
        self.rows.append((seconds, _traffic(candidate), _traffic(baseline)))
        covered = sum(row[0] for row in self.rows)
        while len(self.rows) > 1 and covered - self.rows[0][0] >= keep_seconds:
            covered -= self.rows.pop(0)[0]

    def baseline_lately(self, seconds: float) -> tuple[Array, Array]:
        """(requests, errors) of the baseline in the newest rows, until they cover so many seconds."""
        kept, covered = np.zeros_like(self.rows[-1][2]), 0.0
        for row in reversed(self.rows):
            kept = kept + row[2]
            covered += row[0]
            if covered >= seconds:
                break
        return np.maximum(kept[0], kept[1]), kept[1]

    def bursts(self, rules: FastKill, late: Directions) -> Mask:
        """Where the candidate's errors, refusals or departures (if late counts may speak) kill it at once, with a
        baseline to compare."""
        candidate = np.sum(np.stack([row[1] for row in self.rows]), axis=0)
        baseline = np.sum(np.stack([row[2] for row in self.rows]), axis=0)
        killed = np.zeros(candidate.shape[1], dtype=bool)
        if not rules.enabled:
            return killed
        _, failing = _share(baseline, "errors")
        for name in BURSTS if late.may_fail else BURSTS[:-1]:
            (n_c, share_c), (n_b, share_b) = _share(candidate, name), _share(baseline, name)
            bad = (n_c >= rules.min_requests) & (share_c >= rules.error_share)
            bad &= share_b <= rules.baseline_error_share
            if name == "errors":
                killed |= bad & (n_b > 0)
            else:
                killed |= bad & (n_b >= rules.min_requests) & (failing <= rules.baseline_error_share)
        return killed


class FamilyBatch:
    """`GatesState` of `size` rollouts under one policy that get their intervals in step; `update` changes it in place.

    crossed     the position of the gate to blame once the evidence reached the threshold, else -1; it stays
    killed      where bursts kill now
    outage      where the baseline was out of order in the newest interval
    `passing` False: evidence for FAIL only, several times as fast.
    """

    def __init__(self, policy: GatePolicy, size: int, *, passing: bool = True) -> None:
        if policy.warm_up_requests:
            raise InvalidInput("warm_up_requests is not simulated.", field="warm_up_requests", fix="Use 0.")
        self.policy, self.size = policy, size
        self.gates = tuple(GateBatch(gate, size, passing=passing) for gate in policy.gates)
        self.window, self.shares = WindowBatch(), ShareTrail()
        self.since_start = np.zeros(size)
        self.outage, self.over, self.killed = (np.zeros(size, dtype=bool) for _ in range(3))
        self.crossed = np.full(size, -1)

    def update(
        self,
        seconds: float,
        share_bp: int,
        baseline: ArmBatch,
        candidate: ArmBatch,
        pairs: Sequence[tuple[Array, Array]] = (),
    ) -> None:
        """One interval in which both arms were measured."""
        restart = (self.since_start >= self.policy.restart_every_seconds) | self.over
        if restart.any():
            for gate in self.gates:
                gate.failing.start_again(restart)
        self.since_start = np.where(restart, 0.0, self.since_start) + seconds
        self.window.add(seconds, candidate, baseline, self.policy.fast_kill.window_seconds)
        self.shares = self.shares.add(seconds, share_bp, 10_000 - share_bp)
        before, self.outage = self.outage, self._outage(baseline, candidate)
        self.over = before & ~self.outage
        for gate in self.gates:
            if gate.spec.kind == "paired":
                gate.learn_pairs(pairs, seconds, self.policy.beta)
            else:
                said = _read(gate.spec, baseline, candidate, self.shares.directions)
                said = _without_outage(gate.spec, said, baseline, self.outage)
                gate.learn(said, seconds, share_bp, self.policy.beta)
        self.killed = self.window.bursts(self.policy.fast_kill, self.shares.directions)
        newly = (self.crossed < 0) & (self.log_evidence >= math.log(1 / self.policy.alpha))
        if newly.any():
            parts = [math.log(gate.spec.weight) + gate.failing.log_e for gate in self.gates]
            self.crossed = np.where(newly, np.argmax(np.stack(parts), axis=0), self.crossed)

    def _outage(self, baseline: ArmBatch, candidate: ArmBatch) -> Mask:
        limit = self.policy.baseline_outage_share
        if limit is None:
            return np.zeros(self.size, dtype=bool)
        now = np.maximum(baseline.requests, baseline.errors), baseline.errors
        found = (baseline.ready == 0) & (candidate.ready > 0) & (baseline.errors > 0)
        for requests, failed in (now, self.window.baseline_lately(WINDOW_SECONDS)):
            found = found | ((failed >= FEWEST_FAILURES) & (failed >= limit * requests))
        return np.asarray(found)

    @property
    def log_evidence(self) -> Array:
        """log of sum(weight_g * E_g), shape (size,)."""
        return family_log_evidence([gate.spec.weight for gate in self.gates], self.log_evidences)

    @property
    def log_evidences(self) -> list[Array]:
        """log E for FAIL of every gate."""
        return [gate.failing.log_e for gate in self.gates]

    def passes(self, position: int) -> Mask:
        """Where the gate at this position passes now."""
        gate = self.gates[position]
        proven = math.log(gate.spec.weight) + gate.failing.log_e >= math.log(1 / self.policy.alpha)
        return np.asarray(gate.passes(self.policy) & ~proven & (self.crossed != position))


def _read(spec: GateSpec, baseline: ArmBatch, candidate: ArmBatch, late: Directions) -> Said:
    """What the counts say to a gate, before the baseline's own state has its say."""
    yes = np.ones(len(candidate.arrived), dtype=bool)
    if spec.kind == "latency_slo":
        timed_c, timed_b = candidate.timed[spec.key], baseline.timed[spec.key]
        may_fail, may_pass = (yes, yes) if spec.absolute else _by_load(baseline, candidate)
        lost = (timed_c.left - timed_c.left_over, timed_b.left - timed_b.left_over)
        return _said(spec, _sides(timed_c), _sides(timed_b), may_fail, may_pass, lost)
    if spec.kind == "feedback":
        return _said(spec, _rated(candidate), _rated(baseline), yes, yes)
    if spec.kind not in ("error_rate", "refused", "abandoned"):
        raise InvalidInput(f"Gates of kind {spec.kind} are not simulated.", field="kind")
    may_fail = may_pass = yes
    if spec.kind == "abandoned":
        if not spec.absolute:
            may_fail, may_pass = _by_load(baseline, candidate)
        may_fail, may_pass = may_fail & late.may_fail, may_pass & late.may_pass
    return _said(spec, _ended_so(spec, candidate), _ended_so(spec, baseline), may_fail, may_pass)


def _said(
    spec: GateSpec,
    of_candidate: tuple[Array, Array],
    of_baseline: tuple[Array, Array],
    may_fail: Mask,
    may_pass: Mask,
    censored: tuple[Array, Array] | None = None,
) -> Said:
    (n_c, e_c), (n_b, e_b) = of_candidate, of_baseline
    known = (n_c > 0) & ((n_b > 0) | spec.absolute) & (may_fail | may_pass)
    return Said(n_c, e_c, n_b, e_b, known, may_fail, may_pass, np.ones_like(known), censored)


def _without_outage(spec: GateSpec, said: Said, baseline: ArmBatch, outage: Mask) -> Said:
    known, n_baseline = said.known, said.n_baseline
    if spec.kind in ("refused", "abandoned"):  # what it failed it could neither refuse nor keep waiting
        kept = np.maximum(n_baseline - baseline.errors, said.e_baseline)
        n_baseline = np.where(outage, kept, n_baseline)
        known = known & ((n_baseline > 0) | spec.absolute)
    return replace(
        said,
        n_baseline=n_baseline,
        known=known & (said.may_fail | ~outage),
        may_pass=said.may_pass & ~outage,
        usual=said.usual & ~outage,
    )


def _ended_so(spec: GateSpec, arm: ArmBatch) -> tuple[Array, Array]:
    if arm.refused is None or arm.abandoned is None:
        if spec.kind != "error_rate":
            raise InvalidInput(f"Outcomes were not counted, and {spec.kind} needs them.", field="refused")
        return arm.requests, arm.errors
    events = {"error_rate": arm.errors, "refused": arm.refused, "abandoned": arm.abandoned}[spec.kind]
    return np.maximum(arm.arrived, events), events


def _rated(arm: ArmBatch) -> tuple[Array, Array]:
    nothing = np.zeros(len(arm.arrived))
    return (
        nothing if arm.answers is None else arm.answers,
        nothing if arm.thumbs_down is None else arm.thumbs_down,
    )


def _sides(timed: TimedBatch) -> tuple[Array, Array]:
    return timed.total + timed.left_over, timed.over + timed.left_over


def _by_load(baseline: ArmBatch, candidate: ArmBatch) -> tuple[Mask, Mask]:
    """(may fail, may pass) by the load rule."""
    ready = (candidate.ready > 0) & (baseline.ready > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        load_c, load_b = candidate.arrived / candidate.ready, baseline.arrived / baseline.ready
        return ready & (load_c <= LOAD_TOLERANCE * load_b), ready & (load_c * LOAD_TOLERANCE >= load_b)


def _traffic(arm: ArmBatch) -> Array:
    nothing = np.zeros(len(arm.requests))
    if arm.refused is None or arm.abandoned is None:
        return np.stack([arm.requests, arm.errors, nothing, nothing, nothing])
    return np.stack([arm.requests, arm.errors, arm.arrived, arm.refused, arm.abandoned])


def _share(traffic: Array, name: str) -> tuple[Array, Array]:
    """(requests, share) of errors, refusals or departures."""
    requests, errors, arrived, refused, abandoned = traffic
    events = {"errors": errors, "refused": refused, "abandoned": abandoned}[name]
    trials = requests if name == "errors" else np.maximum(arrived, events)
    return trials, events / np.maximum(trials, 1)
