"""The state of a gate with a fixed limit: how many readings in a row were beyond it, or within it.

A reading is a number that was measured anew. What says nothing (absent, stale, no number, a query that failed) is no
reading: it adds to no row and breaks none, so that an outage of the source neither fails nor passes anything, nor hides
for good what was seen before it. So is the same sample again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from controlplane.kernel.words import percent_of_bp
from rollouts.domain.gates import checks
from rollouts.domain.gates.fixed_limits import is_beyond
from rollouts.domain.gates.policy import GatePolicy, GateSpec
from rollouts.domain.gates.reading import PASS_SHARE_BP, Circumstances, Nothing, NumberSeen, read_number
from rollouts.domain.record.intervals import Interval


@dataclass(frozen=True, slots=True)
class LimitTrack:
    """One gate's state; `update` gives the next one.

    beyond, within  readings in a row, one of them 0: those within are counted only where they may pass
    readings        all of them
    value, baseline the newest numbers; None: not known. `at`: when that of the candidate was measured
    failed          enough were beyond it: nothing takes that back, and the numbers stay those of then
    pass_note       why the newest reading could not count for a PASS
    silent_seconds  since there last was a number; `silence` says why, `broken` that the source itself is broken
    """

    beyond: int = 0
    within: int = 0
    readings: int = 0
    value: float | None = None
    at: float | None = None
    baseline: float | None = None
    failed: bool = False
    pass_note: str = ""
    silent_seconds: float = 0.0
    silence: str = "nothing was measured yet"
    broken: bool = False

    def start_again(self) -> Self:
        """A search for a late regression changes nothing here: every row is a new one."""
        return self

    def update(
        self,
        spec: GateSpec,
        policy: GatePolicy,
        interval: Interval,
        candidate: str,
        circumstances: Circumstances,
    ) -> Self:
        """The state after one interval. Raises InvalidInput for an impossible number, naming it."""
        if self.failed:
            return self
        seen = read_number(spec, interval, candidate)
        if isinstance(seen, Nothing):
            return replace(
                self,
                silent_seconds=self.silent_seconds + interval.seconds,
                silence=seen.reason,
                broken=seen.broken,
            )
        new = replace(self, baseline=seen.baseline, silent_seconds=0.0, silence="", broken=False)
        return new if seen.at == self.at else new._after(spec, seen, interval.share_bp)

    def _after(self, spec: GateSpec, seen: NumberSeen, share_bp: int) -> Self:
        new = replace(self, value=seen.value, at=seen.at, readings=self.readings + 1)
        if is_beyond(spec, seen.value):
            beyond = self.beyond + 1
            return replace(
                new, beyond=beyond, within=0, failed=beyond >= (spec.fail_readings or 1), pass_note=""
            )
        note = ""
        if share_bp < PASS_SHARE_BP:  # a number under a small load says little of a large one
            note = (
                f"it can pass only while the candidate's share is {percent_of_bp(PASS_SHARE_BP)} or more, and now it "
                f"is {percent_of_bp(share_bp)}"
            )
        return replace(new, beyond=0, within=self.within + (not note), pass_note=note)

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in NAMES}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        checks.exactly(data, NAMES, field="")
        return cls(**data)


NAMES = tuple(LimitTrack.__dataclass_fields__)
