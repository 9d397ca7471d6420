"""How often the event of a gate happened, of what was measured: the base rate that forecasts begin with."""

from __future__ import annotations

from rollouts.domain.gates.policy import GateSpec
from rollouts.domain.record.intervals import Completions, Outcomes


def ended_share(gate: GateSpec, outcomes: Outcomes | None, completions: Completions | None) -> float | None:
    """The share for a gate on how requests or completions end; None for another gate, and where nothing was counted.

    Over a long stretch what ended is what arrived.
    """
    if outcomes is not None and outcomes.ended and gate.kind in ("refused", "abandoned"):
        return (outcomes.refused if gate.kind == "refused" else outcomes.abandoned) / outcomes.ended
    if completions is not None and completions.total and gate.kind in ("empty", "truncated"):
        return (completions.empty if gate.kind == "empty" else completions.truncated) / completions.total
    return None
