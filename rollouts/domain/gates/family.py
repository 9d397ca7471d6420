"""The whole rollout: all gates together, one false-alarm budget, one decision.

Roll back when sum(weight_g * E_g) >= 1 / alpha. A weighted mean of e-processes is an e-process, whatever the
dependence between the gates, so a rollout that changes nothing is rolled back with probability at most alpha
over its whole life, however often it is looked at; and never later than with a weighted Bonferroni
correction. PASS needs every required gate at beta, without a correction: it takes only one bad gate to
withhold it (intersection-union). A gate with a fixed limit is no part of the sum: it rolls back by itself,
outside alpha.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any, Self

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.gates import checks
from rollouts.domain.gates.backlog import Backlog, Unsettled
from rollouts.domain.gates.evidence import as_number, log_sum_exp
from rollouts.domain.gates.explain import gate_verdict, reason_of
from rollouts.domain.gates.fastkill import TrafficWindow, WorkloadFacts, why_kill
from rollouts.domain.gates.late import ShareTrail, baseline_share
from rollouts.domain.gates.limit_track import LimitTrack
from rollouts.domain.gates.limit_verdict import limit_verdict
from rollouts.domain.gates.outage import Outage, next_outage, outage_of
from rollouts.domain.gates.policy import GatePolicy, GateSpec, stored_policy
from rollouts.domain.gates.reading import Circumstances
from rollouts.domain.gates.track import GateTrack
from rollouts.domain.gates.verdict import FamilyVerdict, GateVerdict, Verdict
from rollouts.domain.record.intervals import BASELINE, DEPARTURES, ArmCounts, Interval

# Not in the state of an earlier version, and left out while there is nothing in them.
LATER = ("shares", "outage", "backlog")
Track = GateTrack | LimitTrack


@dataclass(frozen=True, slots=True)
class GatesState:
    """Everything the gates remember of a rollout: bounded in size whatever its length.

    tracks              one a gate, in the order of the policy
    last_index          of the newest interval; an older or repeated one is refused
    exposure_seconds    with the candidate measured; restarts are counted in it
    since_start         of those, since the last restart
    candidate_requests  arrived at the candidate so far (for the warm-up)
    share_bp            the candidate's share in the newest interval
    crossed             the gate to blame once the evidence reached the threshold, and the evidence then; it
                        stays
    counted_by_unit     False: the traffic is sticky but the source counts requests, so statistics decide
                        nothing
    shares              of the last minute, for what is counted late
    outage              of the baseline, while it lasts and in the first interval after it; else None
    backlog             requests that still ran when last measured, or were lost; never known under an earlier policy
    """

    policy: GatePolicy
    tracks: tuple[Track, ...]
    window: TrafficWindow = field(default_factory=TrafficWindow)
    last_index: int = -1
    exposure_seconds: float = 0.0
    since_start: float = 0.0
    candidate_requests: int = 0
    share_bp: int = 0
    crossed: str | None = None
    crossed_evidence: float = 0.0
    counted_by_unit: bool = True
    shares: ShareTrail = field(default_factory=ShareTrail)
    outage: Outage | None = None
    backlog: Backlog = field(default_factory=Backlog)

    @classmethod
    def initial(cls, policy: GatePolicy, *, counted_by_unit: bool = True) -> Self:
        """No evidence yet.

        counted_by_unit     False when users or conversations are randomised but requests are counted: the
                            promise would be void, so no gate may then FAIL or PASS; the fast kill still works
        """
        return cls(
            policy,
            tuple(
                LimitTrack() if gate.fixed else GateTrack.initial(gate, earlier=policy.earlier)
                for gate in policy.gates
            ),
            counted_by_unit=counted_by_unit,
        )

    def update(self, interval: Interval, candidate: str = "candidate") -> Self:
        """The state after one interval of evidence for the arm `candidate`.

        Raises InvalidInput for an interval that is not newer than the last, or for impossible counts (field
        named).
        """
        index = checks.count(interval.index, field="index")
        if index <= self.last_index:
            raise InvalidInput(
                f"index is {index}, but interval {self.last_index} was already counted.",
                field="index",
                fix="Give every interval once, in order.",
            )
        seconds = checks.between(interval.seconds, 0, 86_400, field="seconds", low_open=True)
        share_bp = int(checks.between(interval.share_bp, 0, 10_000, field="share_bp"))
        arm = interval.arms.get(candidate)
        exposed = arm is not None or bool(interval.pairs.get(candidate))
        # After an outage the search begins anew: its intervals took evidence from every start before them. One interval
        # late, because whether the newest one is in order depends on its own counts, and a start may not.
        due = self.since_start >= self.policy.restart_every_seconds
        restart = exposed and (due or (self.outage is not None and self.outage.over))
        tracks = tuple(track.start_again() for track in self.tracks) if restart else self.tracks
        baseline = interval.arms.get(BASELINE)
        # Departures of which nobody knows how many there were are no burst.
        kept = _without_departures if DEPARTURES in interval.missing else _as_counted
        window = self.window.add(kept(baseline), kept(arm), seconds, self.policy.fast_kill.window_seconds)
        shares = self.shares
        if self._counts_late:
            shares = shares.add(seconds, share_bp, baseline_share(share_bp, interval.shares, BASELINE))
        # One cluster tells of both: where it saw no replica of either, it is more likely that it could not be read.
        looked = arm is None or arm.ready > 0
        why = outage_of(self.policy.baseline_outage_share, baseline, window, looked=looked)
        circumstances = Circumstances(
            warming_up=self.candidate_requests < self.policy.warm_up_requests,
            outage=why,
            late=shares.directions,
        )
        tracks = tuple(
            track.update(gate, self.policy, interval, candidate, circumstances)
            for gate, track in zip(self.policy.gates, tracks, strict=True)
        )
        arrived = 0 if arm is None else checks.count(arm.arrived, field=f"arms.{candidate}.arrived")
        backlog = self.backlog
        if not self.policy.earlier:
            lost = interval.lost
            backlog = backlog.after(arm, baseline).losing(
                lost.get(candidate, 0), lost.get(BASELINE, 0), window
            )
        new = replace(
            self,
            tracks=tracks,
            window=window,
            last_index=index,
            exposure_seconds=self.exposure_seconds + (seconds if exposed else 0.0),
            since_start=(0.0 if restart else self.since_start) + (seconds if exposed else 0.0),
            candidate_requests=self.candidate_requests + arrived,
            share_bp=share_bp,
            shares=shares,
            outage=next_outage(
                self.outage, why, baseline, started_at=float(interval.started_at), seconds=seconds
            ),
            backlog=backlog,
        )
        return new._look()

    @property
    def _counts_late(self) -> bool:
        """Whether a gate, or the fast kill, counts what ends long after it arrived."""
        kills = self.policy.fast_kill.enabled and not self.policy.earlier
        return kills or any(gate.kind == "abandoned" for gate in self.policy.gates)

    def _look(self) -> Self:
        """Latches the rollback: once proven, or beyond a fixed limit for long enough, no later interval takes it
        back."""
        if self.crossed is not None:
            return self
        log_total = self.log_evidence
        if self.counted_by_unit and log_total >= math.log(1 / self.policy.alpha):
            _, cause = max(self._parts, key=itemgetter(0))
        else:
            failed = (g.key for g, t in self._pairs() if isinstance(t, LimitTrack) and t.failed)
            found = next(failed, None)
            if found is None:
                return self
            cause = found
        return replace(self, crossed=cause, crossed_evidence=as_number(log_total))

    def _pairs(self) -> zip[tuple[GateSpec, Track]]:
        return zip(self.policy.gates, self.tracks, strict=True)

    @property
    def tested(self) -> tuple[GateTrack, ...]:
        """The tracks of the gates that are tests of chance, without fixed limits."""
        return tuple(track for track in self.tracks if isinstance(track, GateTrack))

    @property
    def _parts(self) -> list[tuple[float, str]]:
        """log of weight_g * E_g and the key of each gate that is a test; a fixed limit is none."""
        return [
            (math.log(gate.weight) + track.failing.log_e, gate.key)
            for gate, track in self._pairs()
            if isinstance(track, GateTrack)
        ]

    @property
    def log_evidence(self) -> float:
        """log of sum(weight_g * E_g)."""
        return log_sum_exp([part for part, _ in self._parts])

    def assess(
        self, *, workload: WorkloadFacts | None = None, baseline_bp: int | None = None
    ) -> FamilyVerdict:
        """The verdict now.

        workload        restarts and kills of the engines, for the fast kill
        baseline_bp     the baseline's share when there are more arms than these two (for forecasts)
        """
        unsettled = Unsettled.of(self.backlog, self.window)
        verdicts = tuple(self._verdict(gate, track, baseline_bp, unsettled) for gate, track in self._pairs())
        cause = next((verdict for verdict in verdicts if verdict.key == self.crossed), None)
        late = self.shares.directions
        kill = why_kill(self.policy.fast_kill, self.window, self.share_bp, workload, late)
        required = [verdict for verdict in verdicts if verdict.required]
        passes = all(verdict.verdict is Verdict.PASS for verdict in required)
        failed = any(verdict.verdict is Verdict.FAIL for verdict in verdicts)
        evidence = max(as_number(self.log_evidence), self.crossed_evidence)
        return FamilyVerdict(
            rollback=cause is not None or kill is not None,
            cause=cause,
            evidence=evidence,
            threshold=1 / self.policy.alpha,
            budget=self.policy.alpha,
            verdicts=verdicts,
            all_required_pass=passes and not failed and kill is None,
            fast_kill=kill,
            reason=reason_of(verdicts, cause, kill),
            outage=self.outage,
        )

    def _verdict(
        self, gate: GateSpec, track: Track, baseline_bp: int | None, unsettled: Unsettled
    ) -> GateVerdict:
        if isinstance(track, LimitTrack):
            return limit_verdict(gate, track, self.policy)
        return gate_verdict(
            gate,
            track,
            policy=self.policy,
            share_bp=self.share_bp,
            blamed=self.crossed == gate.key,
            counted_by_unit=self.counted_by_unit,
            baseline_bp=baseline_bp,
            still_running=unsettled,
        )

    def to_json(self) -> dict[str, Any]:
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        data["policy"] = self.policy.to_json()
        data["tracks"] = [track.to_json() for track in self.tracks]
        data["window"] = self.window.to_json()
        for name in LATER:
            del data[name]
        if self.shares.rows:
            data["shares"] = self.shares.to_json()
        if self.outage is not None:
            data["outage"] = self.outage.to_json()
        if self.backlog != Backlog():
            data["backlog"] = self.backlog.to_json()
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises InvalidInput naming the field when the data is not a state."""
        names = list(cls.__dataclass_fields__)
        needed = [name for name in names if name not in LATER]
        values = dict(checks.mapping(data, field="", allowed=names, needed=needed))
        policy = stored_policy(values["policy"])
        if len(values["tracks"]) != len(policy.gates):
            raise InvalidInput("tracks does not hold one entry a gate.", field="tracks")
        values["policy"] = policy
        values["tracks"] = tuple(
            LimitTrack.from_json(track) if gate.fixed else GateTrack.from_json(track, gate)
            for gate, track in zip(policy.gates, values["tracks"], strict=True)
        )
        values["window"] = TrafficWindow.from_json(values["window"])
        values["shares"] = ShareTrail.from_json(values.get("shares", ()))
        outage = values.get("outage")
        values["outage"] = None if outage is None else Outage.from_json(outage)
        values["backlog"] = Backlog.from_json(values.get("backlog", ()))
        return cls(**values)


def _as_counted(arm: ArmCounts | None) -> ArmCounts | None:
    return arm


def _without_departures(arm: ArmCounts | None) -> ArmCounts | None:
    if arm is None or arm.outcomes is None:
        return arm
    return replace(arm, outcomes=replace(arm.outcomes, abandoned_before=0, abandoned_midway=0))
