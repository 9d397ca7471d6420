"""Whether the stable variant of an endpoint has an outage, with or without a rollout, from its first interval on.

For people only: what an outage means for a rollout is decided by its gates (`rollouts.domain.gates.outage`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from controlplane.kernel.words import clock_time, duration_of_seconds
from rollouts.domain.gates.fastkill import TrafficWindow
from rollouts.domain.gates.outage import WINDOW_SECONDS, Outage, next_outage, outage_of
from rollouts.domain.record.intervals import ArmCounts


@dataclass(frozen=True, slots=True)
class Serving:
    """What is remembered from one interval to the next.

    variant     that it is about; another stable variant begins anew
    outage      while it lasts, and in the first interval after it; else None
    window      the last seconds of its traffic, kept while anything in them failed
    """

    variant: str
    outage: Outage | None = None
    window: TrafficWindow = field(default_factory=TrafficWindow)

    @property
    def lasting(self) -> Outage | None:
        """The outage that is not over."""
        return None if self.outage is None or self.outage.over else self.outage

    def after(
        self,
        counts: ArmCounts | None,
        *,
        not_ready: str,
        looked: bool,
        limit: float,
        started_at: float,
        seconds: float,
    ) -> Self:
        """After one more interval.

        counts      of the variant; None: not measured
        not_ready   why its engine does not answer; empty when it is ready, or when the cluster could not be read
        looked      the cluster told which engines are ready
        limit       the share of its requests that fail from which on it is out of order
        """
        window = self.window.add(counts, None, seconds, WINDOW_SECONDS)
        why = not_ready or outage_of(limit, counts, window, looked=looked)
        outage = next_outage(self.outage, why, counts, started_at=started_at, seconds=seconds)
        return replace(self, outage=outage, window=window if window.baseline.errors else TrafficWindow())

    def to_json(self) -> dict[str, Any]:
        """Plain data; empty while there is nothing to remember, so that a sound endpoint is not written anew."""
        if self.outage is None and not self.window.rows:
            return {}
        return {
            "variant": self.variant,
            "outage": None if self.outage is None else self.outage.to_json(),
            "window": self.window.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], *, variant: str) -> Self:
        """What was kept about this variant; nothing when it was kept about another one."""
        if not data or data["variant"] != variant:
            return cls(variant)
        outage = data["outage"]
        return cls(
            variant,
            None if outage is None else Outage.from_json(outage),
            TrafficWindow.from_json(data["window"]),
        )


def began_title(label: str, outage: Outage) -> str:
    """`v5 has been out of order since 14:02:11 UTC`, for the history."""
    return f"{label} has been out of order since {clock_time(outage.since)}"


def ended_title(label: str, outage: Outage) -> str:
    """`v5 works again after 1 min 40 s (since 14:02:11 UTC)`, for the history."""
    return (
        f"{label} works again after {duration_of_seconds(outage.seconds)} (since {clock_time(outage.since)})"
    )


def outage_sentence(outage: Outage, *, helper: str) -> str:
    """How many requests met the outage and what became of them. `helper`: who answered in its place."""
    if not outage.requests:
        return "No request came in that time."
    lost = outage.failed - outage.rescued
    parts = []
    if outage.rescued:
        parts.append(f"{outage.rescued:,} {'was' if outage.rescued == 1 else 'were'} answered by {helper}")
    if lost:
        parts.append(f"{lost:,} failed for {'its user' if lost == 1 else 'their users'}")
    else:
        parts.append("none failed for its user")
    came = f"{outage.requests:,} {'request' if outage.requests == 1 else 'requests'}"
    return f"Of {came} in that time, {' and '.join(parts)}."
