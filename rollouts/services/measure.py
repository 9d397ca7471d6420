"""Measure: one interval of evidence for a rollout, and what the gates say of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.analysis import (
    Analysis,
    Assessment,
    analysis_from_json,
    initial_analysis,
    interval_rng,
)
from rollouts.domain.gates.fastkill import WorkloadFacts
from rollouts.domain.intervals import ArmCounts, Interval, ProbePair
from rollouts.domain.plan import FULL_SHARE_BP
from rollouts.models import Evidence, ProbeResult, Rollout
from rollouts.ports import FailureReason
from rollouts.services.feedback import ratings_between
from rollouts.services.observe import Observation
from rollouts.services.world import World

CANDIDATE, BASELINE = "candidate", "baseline"
LONGEST_INTERVAL = 86_400.0  # seconds that a gate takes as one interval

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Measured:
    """One interval with what the analysis says after it; `used_probes` and `fed_until` are what it consumed.

    workload    what the cluster said of the engines, by candidate arm
    """

    interval: Interval
    analysis: Analysis
    assessment: Assessment
    workload: Mapping[str, WorkloadFacts]
    used_probes: tuple[int, ...]
    fed_until: int


def measure_rollout(*, rollout: Rollout, seen: Observation, world: World, now: datetime) -> Measured | None:
    """The interval that ended now, or None when nothing was read (the gates then keep their state)."""
    made = seen.difference
    if made is not None and made.seconds > 0:
        started_at, seconds = made.started_at, made.seconds
    else:
        started_at = _last_end(rollout, now)
        seconds = now.timestamp() - started_at
        if made is None and seconds < world.interval_seconds - 0.05:
            return None  # the counters cannot be read: one row an interval says so, not one a tick
    names = {BASELINE: rollout.baseline.name, CANDIDATE: rollout.candidate.name}
    missing, broken = _gaps(seen, names)
    arms = {
        arm: made.arms[variant] for arm, variant in names.items() if made is not None and variant in made.arms
    }
    fed_until = rollout.feedback_interval
    if len(arms) == len(names):  # ratings are fed for both arms at once, or wait
        arms, fed_until = _with_feedback(rollout, arms, names, world, now)
    pairs, used, probe_problem = _pairs(rollout)
    if probe_problem and not pairs:
        missing["probes"] = probe_problem
    interval = Interval(
        index=rollout.next_interval,
        started_at=started_at,
        seconds=min(max(seconds, 0.001), LONGEST_INTERVAL),
        share_bp=_observed_share(rollout, seen),
        arms=arms,
        pairs={CANDIDATE: pairs} if pairs else {},
        missing=missing,
        broken=broken,
    )
    before = _analysis(rollout)
    rng = interval_rng(rollout.pk, interval.index)
    try:
        analysis = before.update(interval, rng)
    except InvalidInput as error:
        # Impossible counts say nothing, and must not stop the loop: without it nobody could roll back.
        log.error("rollout.interval_refused rollout=%s index=%s %s", rollout.pk, interval.index, error)
        interval = replace(
            interval, arms={}, pairs={}, broken={**broken, "router": f"impossible counts: {error}"}
        )
        analysis = before.update(interval, rng)
    workload = {CANDIDATE: _workload_facts(rollout, seen)}
    return Measured(interval, analysis, analysis.assess(workload), workload, used, fed_until)


def _analysis(rollout: Rollout) -> Analysis:
    """What the evidence says so far: as it was stored, or none yet."""
    if rollout.gates_state:
        return analysis_from_json(rollout.gates_state)
    return initial_analysis(rollout.parsed_plan, rollout.gate_policy.policy)


def _last_end(rollout: Rollout, now: datetime) -> float:
    """When the interval before this one ended, in seconds since the epoch."""
    last = (
        Evidence.objects.filter(rollout=rollout).order_by("-index").values_list("ended_at", flat=True).first()
    )
    return (last or rollout.traffic_at or now).timestamp()


def _gaps(seen: Observation, names: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Why something of this rollout is missing, and what is broken, by arm or "router".

    Engines whose gauges cannot be read are left out: gates never use those.
    """
    if "signals" in seen.problems:
        return {}, {"router": seen.problems["signals"]}
    why = seen.difference.missing if seen.difference is not None else {}
    missing = {arm: why[variant] for arm, variant in names.items() if variant in why}
    if "router" in why:
        missing["router"] = why["router"]
    return missing, {}


def _pairs(rollout: Rollout) -> tuple[tuple[ProbePair, ...], tuple[int, ...], str]:
    rows = list(ProbeResult.objects.filter(rollout=rollout, interval__isnull=True).select_related("example"))
    pairs = tuple(
        ProbePair(str(row.example.position), row.score_baseline, row.score_candidate)
        for row in rows
        if row.score_baseline is not None and row.score_candidate is not None
    )
    problem = next((row.problem for row in rows if row.problem), "")
    return pairs, tuple(row.pk for row in rows), problem


def _with_feedback(
    rollout: Rollout, arms: dict[str, ArmCounts], names: dict[str, str], world: World, now: datetime
) -> tuple[dict[str, ArmCounts], int]:
    """Adds the ratings of earlier intervals whose time for ratings is over: each rating counts for its answer."""
    ripe_before = now - timedelta(seconds=world.feedback_seconds)
    ripe = list(
        Evidence.objects.filter(
            rollout=rollout, index__gte=rollout.feedback_interval, ended_at__lte=ripe_before
        ).order_by("index")
    )
    if not ripe:
        return arms, rollout.feedback_interval
    intervals = [Interval.from_json(row.interval) for row in ripe]
    start = datetime.fromtimestamp(intervals[0].started_at, tz=UTC)
    counts = ratings_between(rollout=rollout, start=start, end=ripe[-1].ended_at)
    fed: dict[str, ArmCounts] = {}
    for arm, now_counts in arms.items():
        answers = sum(
            interval.arms[arm].requests - interval.arms[arm].errors
            for interval in intervals
            if arm in interval.arms
        )
        ratings, down = counts.get(names[arm], (0, 0))
        fed[arm] = replace(
            now_counts,
            answers=answers,
            ratings=min(ratings, answers),
            thumbs_down=min(down, ratings, answers),
        )
    return fed, ripe[-1].index + 1


def _observed_share(rollout: Rollout, seen: Observation) -> int:
    if seen.route is not None:
        return int(seen.route.shares.get(rollout.candidate.name, 0))
    shares: dict[str, Any] = rollout.endpoint.observed_shares
    return min(FULL_SHARE_BP, int(shares.get(rollout.candidate.name, 0)))


def _workload_facts(rollout: Rollout, seen: Observation) -> WorkloadFacts:
    """Restarts and kills for memory of both engines since the rollout began; zero what is unknown."""
    since = rollout.created_at.timestamp()
    candidate, baseline = (
        _harm(rollout.candidate.name, seen, since),
        _harm(rollout.baseline.name, seen, since),
    )
    return WorkloadFacts(
        candidate_restarts=candidate[0],
        candidate_oom_kills=candidate[1],
        baseline_restarts=baseline[0],
        baseline_oom_kills=baseline[1],
    )


def _harm(variant: str, seen: Observation, since: float) -> tuple[int, int]:
    status = seen.status(variant)
    if status is None or (status.is_ready and (status.started_at or since) < since):
        return 0, 0  # this process ran before the rollout: whatever happened to it earlier is history
    return status.restarts, int(status.reason is FailureReason.NO_MEMORY)
