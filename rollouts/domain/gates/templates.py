"""The gates that a new policy begins with: what users would notice, each with a limit and a part of the budget.

A person changes them on the policy page; the simulations of the evidence page run on them as they stand here.
The weights say where the budget does most: `errors` and `ttft` hold more because what they find hurts most per
minute, `refused` and `abandoned` less because what they find is mostly large and found in seconds anyway. Halving a
weight costs a gate about an eighth of its time, so none of this is delicate. See docs/statistics.md.

Golden prompts and ratings are not required: an endpoint that has none could never promote anything. They still roll
back.
"""

from __future__ import annotations

from rollouts.domain.gates.policy import GateSpec

DEFAULT_GATES: tuple[GateSpec, ...] = (
    GateSpec(key="errors", label="Error rate", kind="error_rate", mode="strict", delta=0.01, weight=0.25),
    GateSpec(key="refused", label="Refused", kind="refused", mode="strict", delta=0.01, weight=0.15),
    GateSpec(key="abandoned", label="Abandoned", kind="abandoned", mode="tolerant", delta=0.02, weight=0.15),
    GateSpec(
        key="ttft",
        label="Time to first token",
        kind="latency_slo",
        mode="tolerant",
        signal="ttft",
        slo_seconds=0.5,
        ratio=1.25,
        weight=0.2,
    ),
    GateSpec(
        key="quality",
        label="Golden set",
        kind="paired",
        mode="tolerant",
        margin=0.05,
        weight=0.15,
        required=False,
    ),
    GateSpec(
        key="thumbs",
        label="Thumbs down",
        kind="feedback",
        mode="tolerant",
        delta=0.03,
        weight=0.1,
        required=False,
    ),
)
