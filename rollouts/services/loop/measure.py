"""Measure: one interval of evidence for a rollout, and what the gates say of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any

from controlplane.kernel.errors import InvalidInput
from controlplane.timekeeping.jumps import moved
from controlplane.timekeeping.models import ClockJump
from rollouts.domain.engines import FailureReason
from rollouts.domain.gates.fastkill import WorkloadFacts
from rollouts.domain.lifecycle.decision import RolloutView
from rollouts.domain.lifecycle.plan import FULL_SHARE_BP
from rollouts.domain.record.analysis import (
    Analysis,
    Assessment,
    analysed_arms,
    interval_rng,
    labels_of,
)
from rollouts.domain.record.intervals import BASELINE, DEPARTURES, ArmCounts, Interval, ProbePair
from rollouts.domain.record.recorded import TamperedEvidence
from rollouts.domain.strategies import strategy_of
from rollouts.evidence import EvidenceExpired, evidence_rows, last_end
from rollouts.models import Arm, ProbeResult, Rollout
from rollouts.services.commands.feedback import count_ratings, ratings_between
from rollouts.services.loop.observe import Observation
from rollouts.services.loop.past import Past, RatedInterval
from rollouts.services.loop.situation import altered_of
from rollouts.services.world import WHOLE_ENOUGH, World

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
    used_probes: tuple[ProbeResult, ...]
    fed_until: int


def measure_rollout(
    *,
    rollout: Rollout,
    view: RolloutView,
    arm_rows: Sequence[Arm],
    past: Past,
    seen: Observation,
    world: World,
    now: datetime,
    jumps: Sequence[ClockJump] = (),
) -> Measured | None:
    """The interval that ended now, or None when nothing was read (the gates then keep their state).

    arm_rows, past  as they were read in this turn
    jumps           of the clock, lately: earlier intervals are kept with the times that it showed then
    """
    made = seen.difference
    if made is not None and made.seconds > 0:
        started_at, seconds = made.started_at, made.seconds
    else:
        started_at = _last_end(rollout, now, jumps)
        seconds = now.timestamp() - started_at
        if made is None and seconds < WHOLE_ENOUGH * world.interval_seconds:
            return None  # the counters cannot be read: one row an interval says so, not one a tick
    names = _names(view)
    missing, broken = _gaps(seen, names)
    arms = {
        arm: made.arms[variant] for arm, variant in names.items() if made is not None and variant in made.arms
    }
    out = {arm.name for arm in view.arms if arm.dropped}
    # Those that left for a reason which the analysis cannot know by itself.
    dropped = [row for row in arm_rows if row.dropped_cause in ("workload", "person")]
    needed = [arm for arm in names if arm not in out]
    fed: _Fed = _Fed({}, rollout.feedback_interval)
    if all(arm in arms for arm in needed):  # ratings are fed for all arms at once, or wait
        fed = _feedback(rollout, past, arms, names, world, now, jumps)
        arms = {arm: fed.counts.get(arm, counts) for arm, counts in arms.items()}
    pairs, problems = _pairs(past.probes)
    if problems and not pairs:
        missing["probes"] = problems[0]
    interval = Interval(
        index=rollout.next_interval,
        started_at=started_at,
        seconds=min(max(seconds, 0.001), LONGEST_INTERVAL),
        share_bp=_observed_share(rollout, seen, view.candidate),
        arms=arms,
        pairs=pairs,
        missing={**{arm: why for arm, why in missing.items() if arm not in out}, **_reasons(dropped)},
        broken=broken,
        shares={arm: _observed_share(rollout, seen, variant) for arm, variant in names.items()},
        dropped=tuple(row.name for row in dropped),
        answer_shares=fed.shares,
        unseen=dict(made.unseen) if made is not None else {},
        unseen_share=made.unseen_share if made is not None else 0.0,
        lost={arm: made.lost[variant] for arm, variant in names.items() if variant in made.lost}
        if made is not None
        else {},
        altered=tuple(sorted(_altered(seen, {arm: names[arm] for arm in needed}))),
        altered_answers=fed.altered,
    )
    before = _analysis(rollout, view)
    rng = interval_rng(rollout.pk, interval.index)
    try:
        analysis = before.update(interval, rng)
    except InvalidInput as error:
        # Impossible counts say nothing, and must not stop the loop: without it nobody could roll back.
        log.error("rollout.interval_refused rollout=%s index=%s %s", rollout.pk, interval.index, error)
        interval = replace(
            interval, arms={}, pairs={}, lost={}, broken={**broken, "router": f"impossible counts: {error}"}
        )
        analysis = before.update(interval, rng)
    workload = {
        arm: _workload_facts(rollout, variant, seen)
        for arm, variant in names.items()
        if arm != BASELINE and arm in needed
    }
    assessment = analysis.assess(workload, labels_of(view))
    return Measured(interval, analysis, assessment, workload, past.probes, fed.until)


def _names(view: RolloutView) -> dict[str, str]:
    """Variant by arm, of the arms that are analysed: the baseline, and all candidates that ever launched."""
    known = analysed_arms(view)
    return {arm.name: arm.variant for arm in view.arms if arm.name in known}


def _altered(seen: Observation, names: Mapping[str, str]) -> set[str]:
    """The arms of which something else ran than what was asked for: it does now, or did before this look, and may have
    done so for a part of the interval."""
    before = {workload.variant.name for workload in seen.workloads if workload.altered}
    now = {name for name, words in altered_of(seen).items() if words}
    return {arm for arm, variant in names.items() if variant in before | now}


def _reasons(dropped: Sequence[Arm]) -> dict[str, str]:
    """Why an arm whose engine failed is missing; an arm that a person took out is not missing."""
    return {row.name: row.dropped_sentence for row in dropped if row.dropped_cause == "workload"}


def _analysis(rollout: Rollout, view: RolloutView) -> Analysis:
    """What the evidence says so far: as it was stored, or none yet."""
    strategy = strategy_of(view)
    if rollout.gates_state:
        return strategy.ANALYSIS.stored(rollout.gates_state)
    return strategy.initial_analysis(view.plan, rollout.policy, analysed_arms(view))


def _last_end(rollout: Rollout, now: datetime, jumps: Sequence[ClockJump]) -> float:
    """When the interval before this one ended, in seconds since the epoch."""
    last = last_end(rollout.pk)
    return min(now, moved(last or rollout.traffic_at or now, jumps, now=now)).timestamp()


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
    elif seen.difference is not None:
        # Read, and nothing was said of it: its series begin with its traffic, or are not scraped or named otherwise.
        absent = (arm for arm, variant in names.items() if variant not in seen.difference.arms)
        missing = {**{arm: f"no fresh series of {names[arm]}" for arm in absent}, **missing}
        untold = seen.difference.untold
        whose = [arm for arm, variant in sorted(names.items()) if variant in untold]
        if whose:  # one arm is enough: departures are compared
            missing[DEPARTURES] = f"of the {whose[0]}, {untold[names[whose[0]]]}"
    return missing, {}


def _pairs(probes: Sequence[ProbeResult]) -> tuple[dict[str, tuple[ProbePair, ...]], tuple[str, ...]]:
    """Pairs by candidate arm, and what was in the way of the others."""
    pairs: dict[str, tuple[ProbePair, ...]] = {}
    for row in probes:
        if row.score_baseline is not None and row.score_candidate is not None:
            pair = ProbePair(str(row.example.position), row.score_baseline, row.score_candidate)
            pairs[row.arm] = (*pairs.get(row.arm, ()), pair)
    return pairs, tuple(row.problem for row in probes if row.problem)


@dataclass(frozen=True, slots=True)
class _Fed:
    """Counts with the ratings of earlier intervals, by arm; the next interval whose ratings are to be fed; the shares
    under which those answers were assigned; and the arms of which something else answered."""

    counts: Mapping[str, ArmCounts]
    until: int
    shares: Mapping[str, int] = field(default_factory=dict)
    altered: tuple[str, ...] = ()


def _feedback(
    rollout: Rollout,
    past: Past,
    arms: Mapping[str, ArmCounts],
    names: Mapping[str, str],
    world: World,
    now: datetime,
    jumps: Sequence[ClockJump],
) -> _Fed:
    """Adds the ratings of earlier intervals whose time for ratings is over: each rating counts for its answer.

    Only intervals with the same shares, of arms that were what was asked for in all of them or in none, are added up:
    over a change of shares, arms that were compared at different times would look different because of the times. The
    first interval after a change is left out: some of the answers that ended in it were assigned before it, under the
    old shares, and ratings go by when that was. So is one in which answers went uncounted: their ratings would count
    for other answers.
    """
    first, ripe_before = rollout.feedback_interval, now - timedelta(seconds=world.feedback_seconds)

    def shown_now(seconds: float) -> datetime:
        return moved(datetime.fromtimestamp(seconds, tz=UTC), jumps, now=now)

    as_usual = not jumps and past.rated is not None
    try:
        known = past.rated if as_usual else _one_by_one(rollout, max(0, first - 1))
        rows = list(takewhile(lambda row: shown_now(row.ended_at) <= ripe_before, known or ()))
    except (EvidenceExpired, TamperedEvidence) as error:
        # Whoever asks for the evidence is told so; the loop must go on: without it nobody could roll back.
        log.error("rollout.ratings_left_out rollout=%s from=%s %s", rollout.pk, first, error)
        return _Fed({}, rollout.next_interval)
    ripe = [row for row in rows if row.index >= first]
    if not ripe:
        return _Fed({}, first)
    found = [Interval.from_json(row.interval) for row in ripe]
    alike = list(takewhile(lambda one: _likeness(one) == _likeness(found[0]), found))
    last = ripe[len(alike) - 1]
    before = Interval.from_json(rows[0].interval) if rows[0].index < first else None
    if before is None or _weights(before) != _weights(found[0]):
        alike = alike[1:]
    if not alike or not _is_whole(alike[0]):
        return _Fed({}, last.index + 1)
    start, end = shown_now(alike[0].started_at), shown_now(last.ended_at)
    ratings = past.ratings if as_usual else None
    if ratings is None:
        ratings = ratings_between(endpoint_ids=(rollout.endpoint_id,), start=start, end=end)[
            rollout.endpoint_id
        ]
    counts = count_ratings(ratings, start=start, end=end)
    fed: dict[str, ArmCounts] = {}
    for arm, now_counts in arms.items():
        answers = sum(one.arms[arm].ratable for one in alike if arm in one.arms)
        rated, down = counts.get(names[arm], (0, 0))
        fed[arm] = replace(
            now_counts,
            answers=answers,
            ratings=min(rated, answers),
            thumbs_down=min(down, rated, answers),
        )
    answered = any(counts.answers for counts in fed.values())
    if not answered:
        return _Fed(fed, last.index + 1)
    return _Fed(fed, last.index + 1, alike[0].shares, alike[0].altered)


def _one_by_one(rollout: Rollout, first: int) -> Iterator[RatedInterval]:
    """Intervals from `first` on, wherever they lie. Raises EvidenceExpired and TamperedEvidence."""
    for row in evidence_rows(rollout.pk, first=first, stop=rollout.next_interval):
        yield RatedInterval(row.index, row.ended_at, row.interval)


def _weights(interval: Interval) -> tuple[int, dict[str, int]]:
    """The split of an interval."""
    return interval.share_bp, dict(interval.shares)


def _likeness(interval: Interval) -> tuple[object, ...]:
    """Intervals of which this is equal may be added up."""
    return _weights(interval), _is_whole(interval), interval.altered


def _is_whole(interval: Interval) -> bool:
    """Whether all answers of the interval were counted. Counters that could not be read are read later: what they count
    then holds these answers, too."""
    return not interval.unseen and "router" not in interval.missing


def _observed_share(rollout: Rollout, seen: Observation, variant: str) -> int:
    if seen.route is not None:
        return int(seen.route.shares.get(variant, 0))
    shares: dict[str, Any] = rollout.endpoint.observed_shares
    return min(FULL_SHARE_BP, int(shares.get(variant, 0)))


def _workload_facts(rollout: Rollout, variant: str, seen: Observation) -> WorkloadFacts:
    """Restarts and kills for memory of a candidate's and the baseline's engine since the rollout began; zero what is
    unknown."""
    since = rollout.created_at.timestamp()
    candidate, baseline = _harm(variant, seen, since), _harm(rollout.baseline.name, seen, since)
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
