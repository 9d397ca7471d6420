"""What the probes' worker does in one tick: every round that is due, one after the other."""

from __future__ import annotations

from controlplane.passes.services import Report
from rollouts.services.errands.probe_rounds import claim_rounds, run_round
from rollouts.services.world import Worlds


def probe_rollouts(worlds: Worlds) -> Report:
    """Claims and runs all rounds that are due now; what came of them together."""
    reports = [
        run_round(rollout_id=rollout_id, claimed_until=until, worlds=worlds)
        for rollout_id, until in claim_rounds(now=worlds.clock.now())
    ]
    return Report(
        done=sum(report.done for report in reports),
        failed=sum(report.failed for report in reports),
        waiting=sum(report.waiting for report in reports),
    )
