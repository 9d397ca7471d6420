"""Requests that still run: it is not known yet how they will end, and they may be the ones that never do.

An arm holds as many requests as arrive in the time that one of them takes (Little's law). One that holds clearly more
than its share of the arrivals explains answers more slowly, or hangs on some of them; as long as clients do not give
up, it cannot be seen which. So while a gate's limit would be broken if all the surplus had ended badly, that gate may
not PASS. This withholds a PASS and proves nothing: a surplus that comes from longer answers weighs ever less as
requests are counted.

What a process of the router held when it was read last, and was not read again, is open for good: its end was lost with
the counters. Else a router that restarts now and then would hide every request that hangs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from rollouts.domain.gates import checks
from rollouts.domain.gates.fastkill import TrafficWindow
from rollouts.domain.gates.policy import GateSpec
from rollouts.domain.gates.totals import Totals
from rollouts.domain.record.intervals import BASELINE, ArmCounts

KINDS = frozenset({"error_rate", "refused", "abandoned", "latency_slo"})
SLOWER = 1.5  # so many times the baseline's stay may be the length of the answers
CLEARLY_MORE = 3.0  # standard errors


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many requests each arm held at the end of the newest interval that told.

    lost            of the candidate, so far: held by processes of the router that were not read again
    lost_expected   so many would have been lost if its requests took as long as the baseline's
    """

    candidate: int = 0
    baseline: int = 0
    lost: int = 0
    lost_expected: float = 0.0

    def after(self, candidate: ArmCounts | None, baseline: ArmCounts | None) -> Self:
        """With the newest interval; one that could not be measured changes nothing. Raises InvalidInput."""
        if candidate is None or baseline is None or candidate.outcomes is None or baseline.outcomes is None:
            return self
        return replace(
            self,
            candidate=checks.count(candidate.outcomes.running, field="arms.candidate.outcomes.running"),
            baseline=checks.count(baseline.outcomes.running, field=f"arms.{BASELINE}.outcomes.running"),
        )

    def losing(self, candidate: int, baseline: int, window: TrafficWindow) -> Self:
        """With so many of each arm lost in the newest interval. Without traffic of both in `window` it cannot be known
        how many of the candidate's are usual, and none is counted. Raises InvalidInput."""
        checks.count(candidate, field="lost.candidate")
        checks.count(baseline, field=f"lost.{BASELINE}")
        scale = _scale(window)
        if not scale or not (candidate or baseline):
            return self
        expected = self.lost_expected + baseline * scale
        return replace(self, lost=self.lost + candidate, lost_expected=expected)

    def to_json(self) -> list[float]:
        """Its numbers; those of lost requests only when there are any."""
        held: list[float] = [self.candidate, self.baseline]
        return [*held, self.lost, self.lost_expected] if self.lost or self.lost_expected else held

    @classmethod
    def from_json(cls, data: Sequence[float]) -> Self:
        return cls(*(int(value) for value in data[:3]), *(float(value) for value in data[3:]))


def _scale(window: TrafficWindow) -> float:
    """Arrivals of the candidate for each one of the baseline; 0 when one of them had none."""
    arrived, against = window.candidate.arrived, window.baseline.arrived
    return arrived / against if against else 0.0


@dataclass(frozen=True, slots=True)
class Unsettled:
    """Requests of the candidate whose end is open although it should not be.

    running     that it holds, and that were lost with what held them; `expected` of both if its requests took as long
                as the baseline's
    excess      of those, beyond what answers SLOWER times as long would hold; 0 where chance may explain it
    lost        of `running`, those that were lost
    """

    running: int = 0
    expected: float = 0.0
    excess: int = 0
    lost: int = 0

    @classmethod
    def of(cls, backlog: Backlog, window: TrafficWindow) -> Self:
        """What is open now. Without traffic of both arms in `window` it cannot be known, and nothing is."""
        scale = _scale(window)
        if not scale:
            return cls()
        held = backlog.candidate + backlog.lost
        expected = backlog.baseline * scale + backlog.lost_expected
        usual = SLOWER * expected
        # Both levels are counts: one varies by itself, the other by itself times what it is multiplied with.
        spread = math.sqrt(usual + SLOWER**2 * scale * expected + 1.0)
        excess = math.ceil(held - usual) if held > usual + CLEARLY_MORE * spread else 0
        return cls(held, expected, excess, backlog.lost)

    def break_limit(self, spec: GateSpec, totals: Totals) -> bool:
        """Whether the gate's limit would not be kept, had the excess ended badly."""
        candidate, baseline = totals.candidate, totals.baseline
        if not self.excess or spec.kind not in KINDS or candidate is None or not totals.n_candidate:
            return False
        ratio, delta = spec.pass_limit
        return candidate + self.excess / totals.n_candidate > ratio * (baseline or 0.0) + delta
