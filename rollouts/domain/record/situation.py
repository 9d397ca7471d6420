"""What a decision was made on besides the evidence, and how it was written down in every format so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from controlplane.kernel.stored import flat
from rollouts.domain.gates.fastkill import WorkloadFacts
from rollouts.domain.lifecycle.arms import CANDIDATE
from rollouts.domain.lifecycle.decision import GLOBAL_STOP, ArmView, RolloutView, Seen
from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.record.intervals import BASELINE

FORMAT = 2  # 1, without this mark: a canary had no arms, and engines were written with their addresses


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
            "format": FORMAT,
            "now": self.now,
            "rollout": self.rollout.to_json(),
            "seen": self.seen.to_json(),
            "workload": {arm: flat(facts) for arm, facts in sorted(self.workload.items())},
            "software": self.software,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], plan: Plan) -> Self:
        """As `to_json` gave it, now or in an earlier version."""
        rollout, seen = data["rollout"], data["seen"]
        if data.get("format", 1) == 1:
            rollout, seen = _rollout_of_format_1(rollout), _seen_of_format_1(seen, rollout)
        return cls(
            now=float(data["now"]),
            rollout=RolloutView.from_json(rollout, plan),
            seen=Seen.from_json(seen),
            workload={arm: WorkloadFacts(**facts) for arm, facts in data.get("workload", {}).items()},
            software=str(data.get("software", "")),
        )


def _rollout_of_format_1(data: Mapping[str, Any]) -> dict[str, Any]:
    kept = {
        name: value
        for name, value in data.items()
        if name not in ("baseline", "candidate", "baseline_label", "candidate_label")
    }
    arms = data.get("arms") or [
        flat(ArmView(BASELINE, data["baseline"], data["baseline_label"])),
        flat(ArmView(CANDIDATE, data["candidate"], data["candidate_label"])),
    ]
    meant = next(arm["name"] for arm in arms if arm["variant"] == data["candidate"])
    return kept | {"arms": arms, "candidate_arm": meant}


def _seen_of_format_1(data: Mapping[str, Any], rollout: Mapping[str, Any]) -> dict[str, Any]:
    gone = ("baseline", "candidate", "forced_answered", "global_stop", "arms")
    kept = {name: value for name, value in data.items() if name not in gone}
    two = {rollout["baseline"]: data["baseline"], rollout["candidate"]: data["candidate"]}
    answered = [rollout["candidate"]] if data["forced_answered"] else []
    return kept | {
        "engines": data.get("arms") or {name: engine for name, engine in two.items() if engine is not None},
        "answered": data.get("answered", answered),
        "split": data.get("split", {}),
        "hold": GLOBAL_STOP.to_json() if data["global_stop"] else None,
    }
