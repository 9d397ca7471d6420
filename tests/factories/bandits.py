"""Bandits at named states of their life. Answers are drawn from a seeded generator and go through the real learner and
the real gates, under the shares that they ask for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache

import numpy as np

from controlplane.kernel.digests import digest_of
from registry.models import Model
from rollouts.domain.bandits.spec import BanditSpec
from rollouts.domain.bandits.state import BanditState
from rollouts.domain.bandits.verdict import BanditVerdict
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.lifecycle.states import PauseReason, Phase
from rollouts.domain.record.intervals import ArmCounts, Completions, Interval, Outcomes, ProbePair
from rollouts.models import Arm, Endpoint, Evidence, Rollout, Workload
from rollouts.services.loop.samples import completions_with, outcomes_with
from tests.factories.endpoints import endpoint, latency_counts, variant
from tests.factories.people import person, right_now
from tests.factories.registry import model, version
from tests.factories.rollouts import INTERVAL_SECONDS, Behaviour, tell

SPEC = BanditSpec(beta=0.7, burn_in=150, reweight_seconds=30)
PLAN = Plan("bandit", (), watch_seconds=900, deadline_seconds=24 * 3600, settings=SPEC)
RATE = 40.0  # requests a second, all arms together
LOOK_EVERY = 10


@dataclass(frozen=True)
class Life:
    """How the arms answer (`score` is the share of answers that are not rated down) and for how many intervals."""

    arms: tuple[Behaviour, ...]
    intervals: int


PLAIN, GOOD, POOR = Behaviour(score=0.90), Behaviour(score=0.94), Behaviour(score=0.87)
LEARNING = Life((PLAIN, GOOD, Behaviour(score=0.934), POOR), 110)  # two are left, one of them ahead
BURN_IN = Life(LEARNING.arms, 3)
NO_DATA = Life(LEARNING.arms, 0)
ALIKE = Life((POOR, GOOD, GOOD, POOR), 110)  # two are left that are the same
BROKEN = Life((PLAIN, GOOD, Behaviour(errors=0.2, score=0.9), POOR), 30)  # a guardrail drops one


def bandit_model(*, now: datetime | None = None) -> Model:
    """A model with a version for every arm."""
    made = model(now=now)
    if not made.versions.filter(number=4).exists():
        version(made, 4, now=now)
    return made


def bandit_pending(
    *, of: Endpoint | None = None, plan: Plan = PLAN, now: datetime | None = None, arms: int = 4
) -> Rollout:
    """Just started: nothing was launched."""
    at = now or right_now()
    owner = of or endpoint(of=bandit_model(now=at), now=at)
    bandit_model(now=at)
    assert owner.stable is not None
    variants = [owner.stable]
    for number in range(2, arms + 1):
        known = owner.variants.filter(version__number=number).first()
        variants.append(known or variant(owner, number, ready=False, now=at))
    made = Rollout.objects.create(
        endpoint=owner,
        baseline=owner.stable,
        candidate=variants[1],
        gate_policy=owner.gate_policy,
        strategy="bandit",
        plan=plan.to_json(),
        plan_digest=plan.digest,
        phase=Phase.PENDING.value,
        phase_since=at,
        reason="The loop takes it up in a moment.",
        created_by=person(),
        created_at=at,
    )
    for position, one in enumerate(variants):
        name = "baseline" if position == 0 else "candidate" if position == 1 else f"candidate-{position}"
        share = 10_000 if position == 0 else 0
        Arm.objects.create(rollout=made, variant=one, name=name, desired_bp=share, observed_bp=share)
    tell(made, "start-rollout", f"Bandit of {arms} arms started", at, actor=person().username)
    return made


def bandit_launching(*, of: Endpoint | None = None, now: datetime | None = None) -> Rollout:
    """One engine loads, one is ready, one cannot be launched and left the race."""
    at = now or right_now()
    made = bandit_pending(of=of, now=at - timedelta(seconds=20))
    loading, ready, failed = made.arms.exclude(name="baseline")
    log = [
        "INFO 09:31:07 loading weights 1 of 1",
        "ERROR 09:31:09 the cache needs 5.1 GiB more than there is",
    ]
    for arm, phase, message in (
        (loading, "starting", "loading weights"),
        (ready, "ready", ""),
        (failed, "failed", "the cache needs 5.1 GiB more than there is"),
    ):
        Workload.objects.filter(variant=arm.variant).update(
            wanted=phase != "failed",
            phase=phase,
            message=message,
            ready=int(phase == "ready"),
            desired=1,
            log_tail=log[: 2 if phase == "failed" else 1],
            observed_at=at,
        )
    Arm.objects.filter(pk=failed.pk).update(
        dropped_at=at - timedelta(seconds=4),
        dropped_cause="launch",
        dropped_sentence=f"{failed.variant.name} failed (no-memory): the cache needs 5.1 GiB more than there is.",
    )
    made.phase = Phase.PROVISIONING.value
    made.reason = f"Waiting for {loading.variant.name} to be ready, 18 s so far: loading weights."
    made.next_step = "When all have answered a warm-up request, traffic moves in equal shares."
    made.save()
    tell(made, "drop", "v4 left the race", at - timedelta(seconds=4), detail=failed.dropped_sentence)
    return made


def rollout_bandit(
    *,
    of: Endpoint | None = None,
    life: Life = LEARNING,
    plan: Plan = PLAN,
    seed: int = 7,
    now: datetime | None = None,
) -> Rollout:
    """Learning, with all that was measured in `life` behind it."""
    at = now or right_now()
    began = at - timedelta(seconds=life.intervals * INTERVAL_SECONDS)
    made = bandit_pending(of=of, plan=plan, now=began - timedelta(seconds=70), arms=len(life.arms))
    for arm in made.arms.exclude(name="baseline").select_related("variant"):
        Workload.objects.filter(variant=arm.variant).update(
            wanted=True,
            phase="ready",
            ready=1,
            desired=1,
            ready_at=began,
            observed_at=at,
            kv_cache_share=0.23,
        )
    made.phase, made.step_index, made.revision = Phase.PROGRESSING.value, 0, 4
    made.traffic_at = made.step_since = made.phase_since = began
    made.measured_at = at if life.intervals else None
    made.reason, made.next_step = "Every candidate answered a test request through the router.", ""
    made.endpoint.reconciled_at = at
    tell(made, "start", "Moving traffic: equal shares", began)
    _live(made, life, began, seed)
    made.save()
    made.endpoint.save()
    return made


def bandit_paused(*, of: Endpoint | None = None, now: datetime | None = None) -> Rollout:
    """Its weights were frozen by a person."""
    at = now or right_now()
    made = rollout_bandit(of=of, now=at)
    made.phase, made.pause_reason = Phase.PAUSED.value, PauseReason.PERSON.value
    made.phase_since = at
    made.reason = "ana paused the rollout. Waiting for the support lead."
    made.next_step = "It holds until somebody resumes; a failed gate still rolls back."
    made.save()
    tell(made, "pause", "Weights frozen", at, detail=made.reason, actor="ana")
    return made


def bandit_tied(*, of: Endpoint | None = None, now: datetime | None = None) -> Rollout:
    """The deadline is over and two good arms remain: a person chooses."""
    at = now or right_now()
    made = rollout_bandit(of=of, life=ALIKE, now=at)
    made.phase, made.pause_reason = Phase.PAUSED.value, PauseReason.INCONCLUSIVE.value
    made.phase_since = at
    made.reason = f"No verdict within 1 d. {made.verdicts['tie_sentence']}"
    made.next_step = "A person decides: promote one of them, resume or roll back."
    made.save()
    tell(made, "pause", "Held at the shares it had", at, detail=made.reason)
    return made


def bandit_promoted(*, of: Endpoint | None = None, now: datetime | None = None) -> Rollout:
    """The first candidate has all traffic."""
    at = now or right_now()
    made = rollout_bandit(of=of, now=at - timedelta(seconds=30))
    winner = made.arms.get(name="candidate")
    made.phase, made.step_index = Phase.SUCCEEDED.value, 1
    made.reason = "Promoted: v2 has all traffic, read back from the router."
    made.next_step = "v1 stays warm for 15 min and takes over again by itself if needed."
    made.decided_at = at - timedelta(seconds=32)
    made.promoted_at = made.finished_at = at - timedelta(seconds=30)
    made.watching, made.watch_until = True, at + timedelta(minutes=14)
    made.save()
    made.arms.exclude(name="baseline").exclude(pk=winner.pk).filter(dropped_at=None).update(
        dropped_at=made.decided_at, dropped_cause="person", dropped_sentence="v2 was promoted instead."
    )
    made.arms.update(desired_bp=0, observed_bp=0)
    made.arms.filter(pk=winner.pk).update(desired_bp=10_000, observed_bp=10_000)
    owner = made.endpoint
    owner.stable, owner.previous = made.candidate, made.baseline
    owner.desired_shares = owner.observed_shares = {made.candidate.name: 10_000}
    owner.save()
    tell(made, "promote", "Promotion decided", at - timedelta(seconds=32))
    tell(made, "finish", "Promoted v2", at - timedelta(seconds=30))
    return made


def bandit_rolled_back(*, of: Endpoint | None = None, now: datetime | None = None) -> Rollout:
    """A person returned all traffic to the baseline."""
    at = now or right_now()
    made = rollout_bandit(of=of, life=BROKEN, now=at)
    made.phase, made.cause = Phase.ROLLED_BACK.value, "person"
    made.cause_sentence = made.reason = "ana rolled it back. Too many complaints."
    made.next_step = "v1 has all traffic, read back from the router."
    made.decided_at, made.finished_at = at - timedelta(seconds=2), at
    made.save()
    made.arms.update(desired_bp=0, observed_bp=0)
    made.arms.filter(name="baseline").update(desired_bp=10_000, observed_bp=10_000)
    owner = made.endpoint
    owner.desired_shares = owner.observed_shares = {made.baseline.name: 10_000}
    owner.save()
    tell(made, "roll-back", "Rolling back to v1", at - timedelta(seconds=2), detail=made.reason, actor="ana")
    tell(made, "return", "Rolled back to v1", at, detail=made.reason)
    return made


def _live(made: Rollout, life: Life, began: datetime, seed: int) -> None:
    """Keeps of every interval what the loop keeps."""
    arms = list(made.arms.select_related("variant__version"))
    labels = {arm.name: arm.variant.version.label for arm in arms}
    spec = made.parsed_plan.settings
    assert isinstance(spec, BanditSpec)
    first, *moments = _course(spec, made.gate_policy.policy, tuple(labels.items()), life, seed)
    rows: list[Evidence] = []
    last = first
    for index, last in enumerate(moments):
        started = began + timedelta(seconds=index * INTERVAL_SECONDS)
        ended = started + timedelta(seconds=INTERVAL_SECONDS)
        assert last.interval is not None
        interval = replace(last.interval, started_at=started.timestamp())
        _tell_moves(made, last.verdict, labels, last.left, moved=last.moved, at=ended)
        rows.append(
            Evidence(
                rollout=made,
                index=index,
                ended_at=ended,
                interval=interval.to_json(),
                verdicts=last.verdict.to_json(),
                decision={"phase": "progressing"},
                digest=digest_of(interval.to_json()),
            )
        )
        _count(arms, interval, last.left, last.verdict, ended)
    Evidence.objects.bulk_create(rows)
    made.gates_state, made.next_interval = last.state.to_json(), life.intervals
    if rows:
        made.verdicts = last.verdict.to_json()
        made.reason, made.next_step = last.verdict.sentence, last.verdict.detail
    for arm, share in zip(arms, last.state.wanted, strict=True):
        arm.desired_bp = arm.observed_bp = share
        arm.save()
    split = {arm.variant.name: arm.desired_bp for arm in arms if arm.desired_bp}
    made.endpoint.desired_shares = made.endpoint.observed_shares = split


@dataclass(frozen=True)
class Moment:
    """What was known after an interval, which began at no time of day; before the first one there is no interval.

    left   the arms that left the race with it
    moved  whether the shares were recalculated
    """

    interval: Interval | None
    state: BanditState
    verdict: BanditVerdict
    left: tuple[str, ...] = ()
    moved: bool = False


@lru_cache(maxsize=32)  # many tests tell the same course, and the arithmetic is what takes their time
def _course(
    spec: BanditSpec, policy: GatePolicy, labelled: tuple[tuple[str, str], ...], life: Life, seed: int
) -> tuple[Moment, ...]:
    """Draws the intervals under the shares that the bandit wants."""
    rng = np.random.default_rng(seed)
    labels = dict(labelled)
    names = list(labels)
    state = BanditState.initial(spec, policy, names)
    verdict = state.assess(labels=labels)
    moments = [Moment(None, state, verdict)]
    for index in range(life.intervals):
        shares = dict(zip(names, state.wanted, strict=True))
        interval = _interval(rng, index, shares, dict(zip(names, life.arms, strict=True)))
        before, racing = state.wanted, state.learner.survivors
        state = state.update(interval, np.random.default_rng([seed, index, 2]))
        left = tuple(name for name in racing if name not in state.learner.survivors)
        moved = state.wanted != before
        if left or moved or index % LOOK_EVERY == 0 or index == life.intervals - 1:
            verdict = state.assess(labels=labels)
        moments.append(Moment(interval, state, verdict, left, moved))
    return tuple(moments)


def _interval(
    rng: np.random.Generator,
    index: int,
    shares: Mapping[str, int],
    behaviours: Mapping[str, Behaviour],
) -> Interval:
    counts = {}
    for name, behaviour in behaviours.items():
        requests = int(rng.poisson(RATE * INTERVAL_SECONDS * shares[name] / 10_000))
        errors = int(rng.binomial(requests, behaviour.errors))
        answers = requests - errors
        counts[name] = ArmCounts(
            requests=requests,
            errors=errors,
            arrived=requests,
            ready=1.0,
            latency={"ttft": latency_counts(rng, answers, behaviour.slow)},
            answers=answers,
            thumbs_down=int(rng.binomial(answers, 1 - behaviour.score)),
            ratings=answers,
            outcomes=Outcomes(answered=answers, failed=errors),
            completions=Completions(answers, truncated=answers // 20, tokens=answers * 21),
        )
    pairs = {
        name: tuple(
            ProbePair(
                str(int(rng.integers(12))),
                float(rng.random() < behaviours["baseline"].score),
                float(rng.random() < behaviour.score),
            )
            for _ in range(6)
        )
        for name, behaviour in behaviours.items()
        if name != "baseline" and shares[name]
    }
    measured = {name: count for name, count in counts.items() if shares[name]}
    return Interval(
        index=index,
        started_at=0.0,
        seconds=INTERVAL_SECONDS,
        share_bp=10_000 - shares["baseline"],
        arms=measured,
        pairs=pairs,
        shares=dict(shares),
    )


def _count(
    arms: Sequence[Arm], interval: Interval, left: Sequence[str], verdict: BanditVerdict, ended: datetime
) -> None:
    for arm in arms:
        if arm.name in interval.arms:
            arm.requests += interval.arms[arm.name].requests
            arm.errors += interval.arms[arm.name].errors
            arm.failed = arm.errors
            arm.outcomes = outcomes_with(arm.outcomes, interval.arms[arm.name].outcomes)
            arm.completions = completions_with(arm.completions, interval.arms[arm.name].completions)
        if arm.name in left and arm.name != "baseline":
            found = verdict.arm(arm.name)
            arm.dropped_at, arm.dropped_cause, arm.dropped_sentence = ended, found.cause, found.sentence


def _tell_moves(
    made: Rollout,
    verdict: BanditVerdict,
    labels: Mapping[str, str],
    left: Sequence[str],
    *,
    moved: bool,
    at: datetime,
) -> None:
    for name in left:
        tell(made, "drop", f"{labels[name]} left the race", at, detail=verdict.arm(name).sentence)
    if moved:
        moves = verdict.reweight.sentence.partition(": ")[2].rstrip(".")
        tell(made, "reweight", "Weights recalculated", at, detail=moves)


def with_spec(**changes: object) -> Plan:
    """PLAN with another bandit."""
    return replace(PLAN, settings=BanditSpec(**{**SPEC.to_json(), **changes}))
