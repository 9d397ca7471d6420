"""Measure: one interval of evidence for a rollout, and what the gates say of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from rollouts.domain.decide import GatesView
from rollouts.domain.gates.family import FamilyVerdict, GatesState
from rollouts.domain.gates.fastkill import WorkloadFacts
from rollouts.domain.gates.verdict import Verdict
from rollouts.domain.intervals import ArmCounts, Interval, ProbePair
from rollouts.domain.plan import FULL_SHARE_BP
from rollouts.models import Evidence, ProbeResult, Rollout
from rollouts.ports import FailureReason
from rollouts.services.feedback import ratings_between
from rollouts.services.observe import Observation
from rollouts.services.world import World

CANDIDATE, BASELINE = "candidate", "baseline"


@dataclass(frozen=True, slots=True)
class Measured:
    """One interval with the gates' new state; `used_probes` and `fed_until` are what it consumed."""

    interval: Interval
    state: GatesState
    family: FamilyVerdict
    used_probes: tuple[int, ...]
    fed_until: int


def measure_rollout(*, rollout: Rollout, seen: Observation, world: World, now: datetime) -> Measured | None:
    """The interval that ended now, or None when nothing was read (the gates then keep their state)."""
    made = seen.difference
    missing: dict[str, str] = dict(made.missing) if made is not None else {}
    # An engine whose gauges cannot be read breaks no gate: gates count at the router.
    broken: dict[str, str] = {}
    if "signals" in seen.problems:
        broken["router"] = seen.problems["signals"]
    names = {BASELINE: rollout.baseline.name, CANDIDATE: rollout.candidate.name}
    arms: dict[str, ArmCounts] = {}
    for arm, variant in names.items():
        if made is not None and variant in made.arms:
            arms[arm] = made.arms[variant]
        elif variant in missing:
            missing[arm] = missing.pop(variant)
    measured = made is not None and made.seconds > 0
    seconds = made.seconds if made is not None and measured else world.interval_seconds
    started_at = made.started_at if made is not None and measured else now.timestamp() - seconds
    fed_until = rollout.feedback_interval
    if arms:
        arms, fed_until = _with_feedback(rollout, arms, names, world, now)
    pairs, used, probe_problem = _pairs(rollout)
    if probe_problem and not pairs:
        missing["probes"] = probe_problem
    interval = Interval(
        index=rollout.next_interval,
        started_at=started_at,
        seconds=seconds,
        share_bp=_observed_share(rollout, seen),
        arms=arms,
        pairs={CANDIDATE: pairs} if pairs else {},
        missing=missing,
        broken=broken,
    )
    policy = rollout.gate_policy.policy
    state = GatesState.from_json(rollout.gates_state) if rollout.gates_state else GatesState.initial(policy)
    state = state.update(interval, candidate=CANDIDATE)
    return Measured(interval, state, state.assess(workload=_workload_facts(rollout, seen)), used, fed_until)


def gates_view(rollout: Rollout, family: FamilyVerdict | None) -> GatesView:
    """What the decision needs of a family verdict."""
    if family is None:
        return GatesView()
    open_gates = [
        verdict
        for verdict in family.verdicts
        if verdict.required and verdict.verdict is not Verdict.PASS
    ]
    passed = [verdict for verdict in family.verdicts if verdict.verdict is Verdict.PASS]
    return GatesView(
        rollback=family.rollback,
        cause=f"gate:{family.cause.key}" if family.cause else "gates",
        cause_sentence=family.cause.sentence if family.cause else family.reason,
        fast_kill=family.fast_kill or "",
        all_required_pass=family.all_required_pass,
        waiting=open_gates[0].sentence if open_gates else "",
        passed_sentence=_passed_sentence(len(passed), [verdict.sentence for verdict in passed]),
    )


def _passed_sentence(count: int, sentences: list[str]) -> str:
    return f"All {count} gates passed. " + " ".join(sentences) if sentences else ""


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
            interval.arms[arm].requests - interval.arms[arm].errors for interval in intervals if arm in interval.arms
        )
        ratings, down = counts.get(names[arm], (0, 0))
        fed[arm] = _replace_feedback(now_counts, answers, min(ratings, answers), min(down, answers))
    return fed, ripe[-1].index + 1


def _replace_feedback(counts: ArmCounts, answers: int, ratings: int, down: int) -> ArmCounts:
    return ArmCounts(
        requests=counts.requests,
        errors=counts.errors,
        arrived=counts.arrived,
        ready=counts.ready,
        latency=counts.latency,
        answers=answers,
        thumbs_down=down,
        ratings=ratings,
    )


def _observed_share(rollout: Rollout, seen: Observation) -> int:
    if seen.route is not None:
        return int(seen.route.shares.get(rollout.candidate.name, 0))
    shares: dict[str, Any] = rollout.endpoint.observed_shares
    return min(FULL_SHARE_BP, int(shares.get(rollout.candidate.name, 0)))


def _workload_facts(rollout: Rollout, seen: Observation) -> WorkloadFacts:
    """Restarts and kills for memory of both engines since they were launched; zero what is unknown."""
    candidate, baseline = _harm(rollout.candidate.name, seen), _harm(rollout.baseline.name, seen)
    return WorkloadFacts(
        candidate_restarts=candidate[0],
        candidate_oom_kills=candidate[1],
        baseline_restarts=baseline[0],
        baseline_oom_kills=baseline[1],
    )


def _harm(variant: str, seen: Observation) -> tuple[int, int]:
    status = seen.status(variant)
    if status is None:
        return 0, 0
    return status.restarts, int(status.reason is FailureReason.NO_MEMORY)
