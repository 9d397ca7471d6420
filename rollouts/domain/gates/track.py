"""The state of one gate over a rollout: its evidence for FAIL and for PASS, what to show, and when it last had data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from controlplane.kernel.words import percent_of_bp
from rollouts.domain.gates import checks
from rollouts.domain.gates.bounds import ChangeBounds, ChangeMeasure
from rollouts.domain.gates.censoring import Censoring
from rollouts.domain.gates.latency import LatencyBlocks
from rollouts.domain.gates.paired import PairedProcess
from rollouts.domain.gates.policy import TEMPERED, GatePolicy, GateSpec
from rollouts.domain.gates.proportion import ProportionProcess
from rollouts.domain.gates.reading import PASS_SHARE_BP, Circumstances, Counts, Nothing, Pairs, read
from rollouts.domain.gates.totals import Totals, Trail
from rollouts.domain.record.intervals import Interval

GateProcess = ProportionProcess | PairedProcess


@dataclass(frozen=True, slots=True)
class GateTrack:
    """One gate's state; bounded in size. `update` gives the next one.

    failing, passing    evidence for FAIL (starts spread over the rollout) and for PASS (one start)
    bounds              the always-valid interval that is shown
    totals, comparable  sums over all intervals, and over those whose loads were comparable both ways
    trail               the last hour, finely at its end: where a late regression began
    blocks              latency and abandoned only: minute blocks and their over-dispersion
    censoring           latency only: who left before it could be measured, in both arms
    ratings_*           feedback only: how many answers were rated at all
    silent_seconds      since the gate last had data; `silence` says why, `broken` that its source is broken
                        now
    fail_note, pass_note    why the last data could not count that way
    has_passed          PASS was proven and its evidence has not vanished since
    """

    failing: GateProcess
    passing: GateProcess
    bounds: ChangeBounds
    totals: Totals = field(default_factory=Totals)
    comparable: Totals = field(default_factory=Totals)
    trail: Trail = field(default_factory=Trail)
    blocks: LatencyBlocks | None = None
    censoring: Censoring = field(default_factory=Censoring)
    ratings_candidate: int = 0
    ratings_baseline: int = 0
    silent_seconds: float = 0.0
    silence: str = "nothing was measured yet"
    broken: bool = False
    fail_note: str = ""
    pass_note: str = ""
    has_passed: bool = False

    @classmethod
    def initial(cls, spec: GateSpec, *, earlier: bool = False) -> Self:
        """No evidence yet. `earlier`: under a policy of an earlier version, see `GatePolicy.earlier`."""
        fail_ratio, fail_delta = spec.fail_limit
        pass_ratio, pass_delta = spec.pass_limit
        if spec.kind == "paired":
            return cls(
                PairedProcess(margin=fail_delta, decision="fail", starts="spread"),
                PairedProcess(margin=pass_delta, decision="pass"),
                ChangeBounds.empty("score"),
            )
        return cls(
            ProportionProcess(ratio=fail_ratio, delta=fail_delta, decision="fail", starts="spread"),
            ProportionProcess(ratio=pass_ratio, delta=pass_delta, decision="pass"),
            ChangeBounds.empty(measure_of(spec)),
            blocks=LatencyBlocks(cautious=not earlier) if spec.kind in TEMPERED else None,
        )

    def start_again(self) -> Self:
        """A new start of the search for a late regression."""
        return replace(self, failing=self.failing.start_again())

    def update(
        self,
        spec: GateSpec,
        policy: GatePolicy,
        interval: Interval,
        candidate: str,
        circumstances: Circumstances,
    ) -> Self:
        """The state after one interval. Raises InvalidInput for impossible counts or scores, naming them."""
        reading = read(spec, interval, candidate, circumstances)
        if isinstance(reading, Nothing):
            return replace(
                self,
                silent_seconds=self.silent_seconds + interval.seconds,
                silence=reading.reason,
                broken=reading.broken,
                trail=self.trail.add(Totals(seconds=interval.seconds)),
            )
        if isinstance(reading, Pairs):
            return self._learn_pairs(interval, reading, policy.beta)
        return self._learn_counts(spec, interval, reading, policy.beta)

    def _learn_counts(self, spec: GateSpec, interval: Interval, counts: Counts, beta: float) -> Self:
        ways = counts.directions
        big_enough = interval.share_bp >= PASS_SHARE_BP
        pass_note = ways.reason if not ways.may_pass else ""
        if ways.may_pass and not big_enough:
            pass_note = (
                f"it can pass only while the candidate's share is {percent_of_bp(PASS_SHARE_BP)} or more, and now it "
                f"is {percent_of_bp(interval.share_bp)}"
            )
        temper = self.blocks.temper if self.blocks else 1.0
        now = Totals(seconds=interval.seconds).add_counts(counts, absolute=spec.absolute)
        passing = _learn_process(self.passing, counts, temper, used=ways.may_pass and big_enough)
        blocks = self.blocks
        if blocks is not None and counts.usual:
            blocks = blocks.update(
                interval.seconds,
                counts.n_candidate,
                counts.events_candidate,
                counts.n_baseline,
                counts.events_baseline,
            )
        # One new value of many fields, not one a field: that was a tenth of the time of an update.
        return type(self)(
            failing=_learn_process(self.failing, counts, temper, used=ways.may_fail),
            passing=passing,
            bounds=self.bounds.update(
                counts.n_candidate,
                counts.events_candidate,
                counts.n_baseline,
                counts.events_baseline,
                temper=temper,
                lower=ways.may_fail,
                upper=ways.may_pass,
            ),
            totals=self.totals.plus(now),
            comparable=self.comparable.plus(now) if ways.may_fail and ways.may_pass else self.comparable,
            trail=self.trail.add(now),
            blocks=blocks,
            censoring=self.censoring.add(counts) if counts.leavers_known and counts.usual else self.censoring,
            ratings_candidate=self.ratings_candidate + counts.ratings_candidate,
            ratings_baseline=self.ratings_baseline + counts.ratings_baseline,
            silence="",
            fail_note="" if ways.may_fail else ways.reason,
            pass_note=pass_note,
            has_passed=self._still_passed(passing, beta),
        )

    def _learn_pairs(self, interval: Interval, reading: Pairs, beta: float) -> Self:
        failing, passing, bounds = self.failing, self.passing, self.bounds
        assert isinstance(failing, PairedProcess)
        assert isinstance(passing, PairedProcess)
        may_pass = reading.directions.may_pass
        now = Totals(seconds=interval.seconds)
        for pair in reading.pairs:
            failing = failing.update(pair.score_baseline, pair.score_candidate)
            if may_pass:
                passing = passing.update(pair.score_baseline, pair.score_candidate)
            bounds = bounds.update_score(pair.score_candidate - pair.score_baseline, lower=may_pass)
            now = now.add_pair(pair.score_baseline, pair.score_candidate)
        totals = self.totals.plus(now)
        return replace(
            self,
            failing=failing,
            passing=passing,
            bounds=bounds,
            totals=totals,
            comparable=self.comparable.plus(now) if may_pass else self.comparable,
            trail=self.trail.add(now),
            silent_seconds=0.0,
            silence="",
            broken=False,
            pass_note=reading.directions.reason,
            has_passed=self._still_passed(passing, beta),
        )

    def _still_passed(self, passing: GateProcess, beta: float) -> bool:
        """Proven once is proven, until the evidence itself has vanished (E below 1)."""
        if passing.log_e >= math.log(1 / beta):
            return True
        return self.has_passed and passing.log_e >= 0

    def to_json(self) -> dict[str, Any]:
        """Plain data; censoring is left out while nothing is known of it, as in the state of an earlier version."""
        data = {
            "failing": self.failing.to_json(),
            "passing": self.passing.to_json(),
            "bounds": self.bounds.to_json(),
            "totals": self.totals.to_json(),
            "comparable": self.comparable.to_json(),
            "trail": self.trail.to_json(),
            "blocks": None if self.blocks is None else self.blocks.to_json(),
            **{name: getattr(self, name) for name in PLAIN_FIELDS},
        }
        if self.censoring.known:
            data["censoring"] = self.censoring.to_json()
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any], spec: GateSpec) -> Self:
        checks.exactly(data, NAMES if "censoring" in data else ALWAYS_THERE, field="")
        process = PairedProcess if spec.kind == "paired" else ProportionProcess
        return cls(
            failing=process.from_json(data["failing"]),
            passing=process.from_json(data["passing"]),
            bounds=ChangeBounds.from_json(data["bounds"]),
            totals=Totals.from_json(data["totals"]),
            comparable=Totals.from_json(data["comparable"]),
            trail=Trail.from_json(data["trail"]),
            blocks=None if data["blocks"] is None else LatencyBlocks.from_json(data["blocks"]),
            censoring=Censoring.from_json(data.get("censoring", ())),
            **{name: data[name] for name in PLAIN_FIELDS},
        )


PLAIN_FIELDS = (
    "ratings_candidate",
    "ratings_baseline",
    "silent_seconds",
    "silence",
    "broken",
    "fail_note",
    "pass_note",
    "has_passed",
)


NAMES = tuple(GateTrack.__dataclass_fields__)
ALWAYS_THERE = tuple(name for name in NAMES if name != "censoring")


def measure_of(spec: GateSpec) -> ChangeMeasure:
    """What the gate's change is measured in. A limit with both a ratio and a difference is shown as a
    difference.
    """
    if spec.kind == "paired":
        return "score"
    if spec.absolute:
        return "share"
    return "ratio" if spec.ratio != 1 and spec.delta == 0 else "difference"


def _learn_process(process: GateProcess, counts: Counts, temper: float, *, used: bool) -> GateProcess:
    """The process after this interval. One that may not use it still learns the baseline's rate (which only
    steers), unless the baseline was out of order: alternatives built on the rate of an outage find nothing for minutes
    after it.
    """
    assert isinstance(process, ProportionProcess)
    n_candidate, events_candidate = (counts.n_candidate, counts.events_candidate) if used else (0, 0)
    return process.update(
        n_candidate,
        events_candidate,
        counts.n_baseline,
        counts.events_baseline,
        temper=temper if used else 1.0,
        usual=counts.usual,
    )
