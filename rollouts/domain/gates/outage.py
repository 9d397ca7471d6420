"""An outage of the baseline proves nothing good about the candidate.

While the baseline fails, every candidate looks better than it, so such an interval gives no evidence *for* the
candidate and is no exposure. It may still speak against it.

Why leaving intervals out by what the baseline did in them keeps the promise of PASS. Given the past, an interval is
left out when the baseline's failures reach a bound that was fixed before (it depends on the past and on the number of
requests only). The factor L of a PASS grows with the baseline's events: f(e) = E[L | e of the baseline's requests
failed] is increasing, and E[f] <= 1 under the null. Replacing L by 1 for all e above the bound c gives
E[f; e <= c] + P(e > c). If f <= 1 up to c, that is at most P(e <= c) + P(e > c) = 1. If not, f > 1 above c, so
P(e > c) <= E[f; e > c] and the sum is at most E[f] <= 1. For gates on something else than failures the bound is a
condition on the state of the baseline, and the null is that the candidate is not better in *any* state. FAIL keeps its
intervals, because there the same step would not be valid. See docs/statistics.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from controlplane.kernel.words import percent_of_share, seconds_text, whole
from rollouts.domain.gates.fastkill import TrafficWindow
from rollouts.domain.record.intervals import ArmCounts

FEWEST_FAILURES = 3  # so that one failed request of two is no outage
WINDOW_SECONDS = 30.0  # little traffic needs longer than one interval to show it


@dataclass(frozen=True, slots=True)
class Outage:
    """How long the baseline has been out of order.

    since       seconds since the epoch; `seconds` is how long the measured part of it is
    requests    that arrived at the baseline meanwhile; `failed` of them, `rescued` of those by another variant
    why         what was found in the newest interval
    over        the baseline worked again in the newest interval: the outage is told for the last time
    """

    since: float
    seconds: float
    requests: int
    failed: int
    rescued: int
    why: str
    over: bool = False

    @property
    def sentence(self) -> str:
        """What people read, in numbers."""
        lasted = seconds_text(round(self.seconds))
        if not self.requests:
            counted = "no request reached it"
        else:
            counted = f"{whole(self.failed)} of its {whole(self.requests)} requests failed"
            if self.rescued:
                counted += f" and {whole(self.rescued)} of those were answered by another variant"
        if self.over:
            return f"The baseline works again. It was out of order for {lasted}: {counted}."
        return (
            f"The baseline has been out of order for {lasted} ({self.why}): {counted}. "
            "Nothing that is measured meanwhile counts in favour of the candidate."
        )

    def longer(self, baseline: ArmCounts | None, seconds: float, why: str) -> Outage:
        """After one more such interval."""
        counted = _counted(baseline)
        return replace(
            self,
            seconds=self.seconds + seconds,
            requests=self.requests + counted[0],
            failed=self.failed + counted[1],
            rescued=self.rescued + counted[2],
            why=why,
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(**data)


def next_outage(
    before: Outage | None, why: str, baseline: ArmCounts | None, *, started_at: float, seconds: float
) -> Outage | None:
    """The outage after an interval. `why` is empty when the baseline worked in it, and when it was not measured; an
    outage does not end because nothing was measured.
    """
    lasting = None if before is None or before.over else before
    if lasting is not None and baseline is None:
        why = why or lasting.why
    if not why:
        return None if lasting is None else replace(lasting, over=True)
    return (lasting or Outage(started_at, 0.0, 0, 0, 0, why)).longer(baseline, seconds, why)


def outage_of(limit: float | None, baseline: ArmCounts | None, window: TrafficWindow, *, looked: bool) -> str:
    """Why the baseline was out of order in an interval; empty when it was not, or was not measured.

    limit       the share of its requests from which on it is; None: the policy is from before there was such a rule
    window      the last seconds, this interval included
    looked      the cluster told how many replicas are ready; a cluster that could not be read shows none, too
    """
    if limit is None or baseline is None:
        return ""
    requests, failed, _ = _counted(baseline)
    if looked and baseline.ready == 0 and failed:
        return "none of its replicas is ready"
    enough = f"{percent_of_share(limit)} or more is an outage"
    if _beyond(limit, requests, failed):
        return f"{percent_of_share(failed / requests)} of its requests failed; {enough}"
    requests, failed = window.baseline_lately(WINDOW_SECONDS)
    if _beyond(limit, requests, failed):
        lately = seconds_text(WINDOW_SECONDS)
        return f"{percent_of_share(failed / requests)} of its requests failed in the last {lately}; {enough}"
    return ""


def _beyond(limit: float, requests: int, failed: int) -> bool:
    return failed >= FEWEST_FAILURES and failed >= limit * requests


def _counted(baseline: ArmCounts | None) -> tuple[int, int, int]:
    """(requests, failed, answered by another variant)."""
    if baseline is None:
        return 0, 0, 0
    rescued = 0 if baseline.outcomes is None else baseline.outcomes.fallback
    return max(baseline.requests, baseline.errors), baseline.errors, rescued
