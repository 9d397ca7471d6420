"""A database that was restored from an older copy: what is known of it, and when the loop may take over again.

The router and the cluster remember the largest fencing token that ever wrote. When it is larger than any token of this
database, a writer wrote there that this database does not know: itself before it was restored, or another control
plane. A control plane at work tells its token at every interval, so a token that stands still for a while belongs to
none that works.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Self

from controlplane.kernel.clock import ClockReading, seconds_between


class RestoredState(StrEnum):
    NONE = ""
    WATCHING = "watching"  # a larger token was met: is another control plane at work with it?
    RIVAL = "rival"  # the token grows: another control plane is at work
    HELD = "held"  # what serves is not what the database believes: a person chooses
    KEEPING = "keeping"  # a person chose what serves; the loop writes it down
    RETURNING = "returning"  # a person chose what the database says; the loop waits until that is ready


# A choice is asked for, and may be changed until it is carried out.
CHOICE_OPEN = (RestoredState.HELD, RestoredState.KEEPING, RestoredState.RETURNING)


@dataclass(frozen=True, slots=True)
class Restored:
    """What is known of it. Times are seconds since the epoch.

    newest      the largest token that the router or the cluster holds
    since       when it was first met
    quiet       since when it stands still
    last        when the loop last looked at the endpoint by this database: what happened since is lost; None: never
    served      what the router did when it was held: variant -> basis points
    believed    what this database wants the router to do
    rollout     the rollout that this database holds for active, None when there is none
    unkept      of the variants that serve: why one cannot be kept, by name; none for those that can
    choice      the variant that a person chose to keep
    problem     why the choice is not carried out yet
    """

    newest: int
    since: float
    quiet: ClockReading
    last: float | None = None
    served: Mapping[str, int] = field(default_factory=dict)
    believed: Mapping[str, int] = field(default_factory=dict)
    rollout: int | None = None
    unkept: Mapping[str, str] = field(default_factory=dict)
    choice: str = ""
    problem: str = ""

    @property
    def largest(self) -> str:
        """The variant that gets most of the traffic; empty when none gets any."""
        return max(self.served, key=lambda name: (self.served[name], name), default="")

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "quiet": self.quiet.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        known = {one.name: data[one.name] for one in fields(cls) if one.name in data}
        return cls(**{**known, "quiet": ClockReading.from_json(data["quiet"])})


def is_quiet(found: Restored, reading: ClockReading, *, seconds: float) -> bool:
    """Whether no larger token was told for so long. By the machine's monotonic clock where one machine looks."""
    return seconds_between(found.quiet, reading) >= seconds
