"""When the shares last moved, by how much, and how fast answers come in."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

from rollouts.domain.gates import checks

ReweightKind = Literal["burn-in", "waiting", "settled", "moved", "small", "no-data"]
PACE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Reweight:
    """What one interval decided about the weights.

    kind        nothing was due: in "burn-in", "waiting", or "settled" as one arm is left; "moved"; or kept because the
                change would be "small" or because of "no-data"
    change_bp   the largest change of a share
    before      the shares before, in arm order (empty when nothing was due)
    left        moved because an arm left
    waits       seconds of exposure to the next reweight ("waiting")
    """

    kind: ReweightKind = "burn-in"
    change_bp: int = 0
    before: tuple[int, ...] = ()
    left: bool = False
    waits: float = 0.0

    @property
    def due(self) -> bool:
        return self.kind in ("moved", "small", "no-data")

    @property
    def skipped(self) -> bool:
        return self.kind in ("small", "no-data")

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "before": list(self.before)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        names = list(cls.__dataclass_fields__)
        values = dict(checks.mapping(data, field="reweight", allowed=names, needed=names))
        checks.one_of(values["kind"], get_args(ReweightKind), field="reweight.kind")
        values["before"] = tuple(checks.count(share, field="reweight.before") for share in values["before"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Pace:
    """Answers a second, lately: sums that fade with a time constant of five minutes."""

    seconds: float = 0.0
    answers: float = 0.0

    def add(self, seconds: float, answers: int) -> Self:
        fade = math.exp(-seconds / PACE_SECONDS)
        return type(self)(self.seconds * fade + seconds, self.answers * fade + answers)

    @property
    def per_second(self) -> float:
        return self.answers / self.seconds if self.seconds else 0.0

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        names = list(cls.__dataclass_fields__)
        checks.mapping(data, field="pace", allowed=names, needed=names)
        return cls(**{name: checks.finite(data[name], field=f"pace.{name}") for name in names})
