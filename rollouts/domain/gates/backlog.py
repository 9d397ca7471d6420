"""Requests that still run: it is not known yet how they will end, and they may be the ones that never do.

An arm holds as many requests as arrive in the time that one of them takes (Little's law). One that holds clearly more
than its share of the arrivals explains answers more slowly, or hangs on some of them; as long as clients do not give
up, it cannot be seen which. So while a gate's limit would be broken if all the surplus had ended badly, that gate may
not PASS. This withholds a PASS and proves nothing: a surplus that comes from longer answers weighs ever less as
requests are counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
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
    """How many requests each arm held at the end of the newest interval that told."""

    candidate: int = 0
    baseline: int = 0

    def after(self, candidate: ArmCounts | None, baseline: ArmCounts | None) -> Self:
        """With the newest interval; one that could not be measured changes nothing. Raises InvalidInput."""
        if candidate is None or baseline is None or candidate.outcomes is None or baseline.outcomes is None:
            return self
        return type(self)(
            checks.count(candidate.outcomes.running, field="arms.candidate.outcomes.running"),
            checks.count(baseline.outcomes.running, field=f"arms.{BASELINE}.outcomes.running"),
        )

    def to_json(self) -> list[int]:
        return [self.candidate, self.baseline]

    @classmethod
    def from_json(cls, data: Sequence[int]) -> Self:
        return cls(*(int(value) for value in data))


@dataclass(frozen=True, slots=True)
class Unsettled:
    """Requests of the candidate whose end is open although it should not be.

    running     that it holds; `expected` of them if its requests took as long as the baseline's
    excess      of those, beyond what answers SLOWER times as long would hold; 0 where chance may explain it
    """

    running: int = 0
    expected: float = 0.0
    excess: int = 0

    @classmethod
    def of(cls, backlog: Backlog, window: TrafficWindow) -> Self:
        """What is open now. Without traffic of both arms in `window` it cannot be known, and nothing is."""
        arrived, against = window.candidate.arrived, window.baseline.arrived
        if not arrived or not against:
            return cls()
        scale = arrived / against
        expected = backlog.baseline * scale
        usual = SLOWER * expected
        # Both levels are counts: one varies by itself, the other by itself times what it is multiplied with.
        spread = math.sqrt(usual + SLOWER**2 * scale * expected + 1.0)
        if backlog.candidate <= usual + CLEARLY_MORE * spread:
            return cls(backlog.candidate, expected)
        return cls(backlog.candidate, expected, math.ceil(backlog.candidate - usual))

    def break_limit(self, spec: GateSpec, totals: Totals) -> bool:
        """Whether the gate's limit would not be kept, had the excess ended badly."""
        candidate, baseline = totals.candidate, totals.baseline
        if not self.excess or spec.kind not in KINDS or candidate is None or not totals.n_candidate:
            return False
        ratio, delta = spec.pass_limit
        return candidate + self.excess / totals.n_candidate > ratio * (baseline or 0.0) + delta
