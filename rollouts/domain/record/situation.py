"""What a decision was made on besides the evidence, and the number of the format in which it is written down."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from controlplane.kernel.stored import flat
from rollouts.domain.gates.fastkill import WorkloadFacts
from rollouts.domain.lifecycle.decision import RolloutView, Seen
from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.record.formats import FORMAT, NAME, situation_of_today


@dataclass(frozen=True, slots=True)
class Situation:
    """What a replay needs to decide again.

    workload    restarts and kills of the engines, by candidate arm
    software    with what it was decided
    """

    now: float
    rollout: RolloutView
    seen: Seen
    workload: Mapping[str, WorkloadFacts]
    software: str

    def to_json(self) -> dict[str, Any]:
        return {
            NAME: FORMAT,
            "now": self.now,
            "rollout": self.rollout.to_json(),
            "seen": self.seen.to_json(),
            "workload": {arm: flat(facts) for arm, facts in sorted(self.workload.items())},
            "software": self.software,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], plan: Plan) -> Self:
        """As `to_json` gave it, now or in an earlier version. Raises UnknownFormat for one of a newer version."""
        data = situation_of_today(data)
        return cls(
            now=float(data["now"]),
            rollout=RolloutView.from_json(data["rollout"], plan),
            seen=Seen.from_json(data["seen"]),
            workload={arm: WorkloadFacts(**facts) for arm, facts in data.get("workload", {}).items()},
            software=str(data.get("software", "")),
        )
