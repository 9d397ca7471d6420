"""A team's own number, asked for by one expression of a gate: what was read of an arm at one moment."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from controlplane.kernel.digests import canonical_json

# Beyond it a float skips whole numbers; exporters say "not measured" by numbers such as 2**63 - 16.
LARGEST_NUMBER = 2.0**53


@dataclass(frozen=True, slots=True)
class NumberQuery:
    """One expression that gives one number of an arm, such as the temperature of its hottest GPU."""

    expression: str

    @property
    def expressions(self) -> tuple[str, ...]:
        """What a person may ask by hand, with placeholders for the arm."""
        return (self.expression,)

    @property
    def digest(self) -> str:
        """By which evidence knows what was read: another expression measures something else."""
        return hashlib.sha256(canonical_json([self.expression])).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class NumberReading:
    """What the expression said of an arm when an interval ended. `why` it said nothing: the others mean nothing then.

    value   finite, at most LARGEST_NUMBER from 0
    at      when it was measured, in seconds since the epoch by the source's clock: of a plain selector when its sample
            was scraped, of any other expression when it was asked. The same moment again is the same sample
    """

    value: float = 0.0
    at: float = 0.0
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"why": self.why} if self.why else {"value": self.value, "at": self.at}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        if "value" not in data:  # of several intervals together (`thin_rows`) only the span is kept
            return cls(why=str(data.get("why", "several readings were taken together")))
        return cls(float(data["value"]), float(data["at"]))
