"""What a decision asks the world to do. Effects are idempotent, carry the fencing token when they run, and are
verified by reading back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class SetTraffic:
    """Split the endpoint's traffic: variant -> basis points, summing to 10,000."""

    shares: Mapping[str, int]
    fallback: str

    kind = "set-traffic"

    def to_json(self) -> dict[str, Any]:
        return {"shares": dict(sorted(self.shares.items())), "fallback": self.fallback}


@dataclass(frozen=True, slots=True)
class EnsureWorkload:
    """Make a variant run."""

    variant: str

    kind = "ensure-workload"

    def to_json(self) -> dict[str, Any]:
        return {"variant": self.variant}


@dataclass(frozen=True, slots=True)
class DrainWorkload:
    """Let a variant that gets no traffic finish its requests, then stop it."""

    variant: str

    kind = "drain-workload"

    def to_json(self) -> dict[str, Any]:
        return {"variant": self.variant}


@dataclass(frozen=True, slots=True)
class HoldScaleIn:
    """Keep what scales a variant by itself from taking replicas away, or let it do so again."""

    variant: str
    on: bool

    kind = "hold-scale-in"

    def to_json(self) -> dict[str, Any]:
        return {"variant": self.variant, "on": self.on}


@dataclass(frozen=True, slots=True)
class WriteBack:
    """MLflow does not know this decision yet: the endpoint's alias on `alias_variant`'s version, tags on
    `tagged_variant`'s. It is done when the pass that keeps MLflow true has read it back."""

    alias_variant: str
    tagged_variant: str
    decision: str

    kind = "write-back"

    def to_json(self) -> dict[str, Any]:
        return {
            "alias_variant": self.alias_variant,
            "tagged_variant": self.tagged_variant,
            "decision": self.decision,
        }


AnyEffect = SetTraffic | EnsureWorkload | DrainWorkload | HoldScaleIn | WriteBack
