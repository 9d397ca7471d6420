"""Rollouts at named states of their life. Counts are drawn from a seeded generator and go through the real gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache

import numpy as np

from rollouts.domain.engines import EngineView, WorkloadPhase
from rollouts.domain.gates.family import GatesState
from rollouts.domain.gates.fastkill import WorkloadFacts
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.gates.verdict import FamilyVerdict
from rollouts.domain.lifecycle.decide import decide
from rollouts.domain.lifecycle.decision import RolloutView, Seen
from rollouts.domain.lifecycle.plan import canary
from rollouts.domain.lifecycle.states import PauseReason, Phase
from rollouts.domain.record.analysis import GatesAnalysis
from rollouts.domain.record.intervals import ArmCounts, Completions, Interval, Outcomes, ProbePair
from rollouts.domain.record.recorded import evidence_digest
from rollouts.domain.record.situation import Situation
from rollouts.models import Arm, Endpoint, Evidence, HistoryEvent, Rollout, Variant, Workload
from rollouts.services.loop.views import view_of
from rollouts.services.software import software
from tests.factories.endpoints import endpoint, latency_counts, variant
from tests.factories.people import person, right_now

INTERVAL_SECONDS = 5.0


@dataclass(frozen=True)
class Behaviour:
    """How a variant answers: share of errors, of slow answers (over 250 ms), and mean golden-set score."""

    errors: float = 0.002
    slow: float = 0.04
    score: float = 0.72


BASELINE = Behaviour()
BETTER = Behaviour(score=0.97)
WORSE = Behaviour(score=0.41)
PLAN = canary((5, 25, 50), hold_seconds=60, min_requests=50, watch_seconds=900)


def rollout_pending(*, of: Endpoint | None = None, number: int = 2, now: datetime | None = None) -> Rollout:
    """Just started: nothing was launched."""
    at = now or right_now()
    owner = of or endpoint(now=at)
    assert owner.stable is not None
    candidate = Variant.objects.filter(endpoint=owner, version__number=number).first() or variant(
        owner, number, ready=False, now=at
    )
    policy = owner.gate_policy
    made = Rollout.objects.create(
        endpoint=owner,
        baseline=owner.stable,
        candidate=candidate,
        gate_policy=policy,
        plan=PLAN.to_json(),
        plan_digest=PLAN.digest,
        phase=Phase.PENDING.value,
        phase_since=at,
        reason="The loop takes it up in a moment.",
        created_by=person(),
        created_at=at,
        note="better routing of refunds",
    )
    Arm.objects.create(
        rollout=made, variant=owner.stable, name="baseline", desired_bp=10_000, observed_bp=10_000
    )
    Arm.objects.create(rollout=made, variant=candidate, name="candidate")
    tell(made, "start-rollout", f"Rollout of {candidate.name} started", at, actor=person().username)
    return made


def rollout_launching(*, of: Endpoint | None = None, number: int = 2, now: datetime | None = None) -> Rollout:
    """The engine loads."""
    at = now or right_now()
    made = rollout_pending(of=of, number=number, now=at - timedelta(seconds=20))
    made.phase = Phase.PROVISIONING.value
    made.revision = 2
    made.reason = f"Waiting for {made.candidate.name} to be ready, 18 s so far: loading weights."
    made.next_step = "When it has answered a warm-up request, 5% of the traffic moves to it."
    made.save()
    Workload.objects.filter(variant=made.candidate).update(
        wanted=True,
        phase="starting",
        desired=1,
        ready=0,
        message="loading weights",
        observed_at=at,
        log_tail=["INFO 09:31:07 loading weights 1 of 1", "INFO 09:31:09 model loaded in 1.9 s, 0.1 GiB"],
    )
    tell(made, "provision", f"Launching {made.candidate.name}", at - timedelta(seconds=18))
    return made


def rollout_launch_failed(*, of: Endpoint | None = None, now: datetime | None = None) -> Rollout:
    """The engine never came up; traffic was never touched."""
    at = now or right_now()
    made = rollout_launching(of=of, now=at - timedelta(seconds=30))
    sentence = f"{made.candidate.name} failed (no-memory): the cache needs 5.1 GiB more than there is."
    made.phase, made.cause, made.cause_sentence = Phase.ROLLED_BACK.value, "launch:no-memory", sentence
    made.reason, made.next_step = sentence, "v1 has all traffic, read back from the router."
    made.decided_at = made.finished_at = at
    made.revision = 4
    made.save()
    Workload.objects.filter(variant=made.candidate).update(
        wanted=False,
        phase="failed",
        reason="no-memory",
        message="the cache needs 5.1 GiB more than there is",
        log_tail=[
            "INFO 09:31:07 loading weights 11 of 11",
            "INFO 09:31:22 model loaded in 71 s, 61.3 GiB",
            "INFO 09:31:23 profiling the cache",
            "ERROR 09:31:24 ValueError: max_model_len 32768 is larger than the available KV cache memory",
        ],
    )
    tell(made, "roll-back", "Rolling back to v1", at - timedelta(seconds=4), detail=sentence)
    tell(made, "return", "Rolled back to v1", at, detail=sentence)
    return made


def rollout_progressing(
    *,
    of: Endpoint | None = None,
    number: int = 2,
    step: int = 1,
    intervals: int = 24,
    candidate: Behaviour = BETTER,
    now: datetime | None = None,
) -> Rollout:
    """Holding the share of `step`, with `intervals` of evidence behind it."""
    at = now or right_now()
    began = at - timedelta(seconds=intervals * INTERVAL_SECONDS)
    made = rollout_pending(of=of, number=number, now=began - timedelta(seconds=70))
    share = PLAN.steps[step].share_bp
    Workload.objects.filter(variant=made.candidate).update(
        wanted=True,
        phase="ready",
        backend={"kind": "address", "name": "", "address": "127.0.0.1:18102"},
        ready=1,
        desired=1,
        ready_at=began,
        observed_at=at,
        kv_cache_share=0.23,
        running=1.0,
        waiting=0.0,
    )
    made.endpoint.desired_shares = made.endpoint.observed_shares = {
        made.baseline.name: 10_000 - share,
        made.candidate.name: share,
    }
    made.endpoint.reconciled_at = at
    made.endpoint.save()
    made.phase = Phase.PROGRESSING.value
    made.step_index = step
    made.traffic_at = began
    made.revision = 4 + step
    per_step = intervals // (step + 1)
    made.step_since = began + timedelta(seconds=per_step * INTERVAL_SECONDS * step)
    made.phase_since = made.step_since
    made.measured_at = at
    shares = [PLAN.steps[min(i // max(per_step, 1), step)].share_bp for i in range(intervals)]
    family = _measure(made, shares, candidate=candidate, began=began)
    made.step_requests = sum(
        row.interval["arms"]["candidate"]["requests"]
        for row in made.evidence.filter(ended_at__gt=made.step_since)
    )
    waiting = next((v.sentence for v in family.verdicts if v.required and v.verdict.value != "pass"), "")
    held = round((at - made.step_since).total_seconds())
    made.reason = (
        f"Holding {share / 100:g}%: {held} s of 1 min and {min(made.step_requests, 50)} of 50 requests. "
        "No gate failed."
    )
    made.next_step = f"Then {PLAN.steps[min(step + 1, 2)].share_bp / 100:g}%. {waiting}".strip()
    made.save()
    tell(made, "provision", f"Launching {made.candidate.name}", began - timedelta(seconds=66))
    before = 0.0
    for i in range(step + 1):
        moved = began + timedelta(seconds=i * per_step * INTERVAL_SECONDS)
        target = PLAN.steps[i].share_bp / 100
        tell(
            made,
            "advance" if i else "start",
            f"Moving traffic {before:g}% to {target:g}%",
            moved,
            detail="route read back, test request answered by the candidate" if not i else "no gate failed",
        )
        before = target
    return made


def with_outcomes(made: Rollout, **arms: Outcomes) -> Rollout:
    """The same rollout, whose arms' requests ended like this; the engine of an arm that is not named keeps quiet."""
    for name in ("baseline", "candidate"):
        found = arms.get(name)
        made.arms.filter(name=name).update(
            outcomes=found.to_json() if found else {},
            requests=found.ended - found.abandoned if found else 0,
            **({} if found else {"completions": {}}),
        )
    return made


def rollout_paused(*, of: Endpoint | None = None, now: datetime | None = None) -> Rollout:
    """Held by a person at 25%."""
    at = now or right_now()
    made = rollout_progressing(of=of, now=at)
    made.phase, made.pause_reason = Phase.PAUSED.value, PauseReason.PERSON.value
    made.reason = "ana paused the rollout. Waiting for the support lead."
    made.next_step = "It holds until somebody resumes; a failed gate still rolls back."
    made.revision += 1
    made.save()
    tell(made, "pause", "Held at 25%", at, detail=made.reason, actor="ana")
    return made


def rollout_rolled_back(
    *, of: Endpoint | None = None, number: int = 3, now: datetime | None = None
) -> Rollout:
    """The quality gate sent it back: as fast and error-free as ever, worse answers."""
    at = now or right_now()
    made = rollout_progressing(of=of, number=number, step=0, intervals=14, candidate=WORSE, now=at)
    family = FamilyVerdict.from_json(made.verdicts)
    assert family.cause is not None, "the worse candidate is found within these intervals"
    made.phase = Phase.ROLLED_BACK.value
    made.cause = f"gate:{family.cause.key}"
    made.cause_sentence = made.reason = family.cause.sentence
    made.next_step = "v1 has all traffic, read back from the router."
    made.decided_at, made.finished_at = at - timedelta(seconds=2), at
    made.revision += 2
    made.save()
    made.endpoint.desired_shares = made.endpoint.observed_shares = {made.baseline.name: 10_000}
    made.endpoint.save()
    made.arms.filter(name="baseline").update(desired_bp=10_000, observed_bp=10_000)
    made.arms.filter(name="candidate").update(desired_bp=0, observed_bp=0)
    Workload.objects.filter(variant=made.candidate).update(wanted=False, phase="absent", ready=0, desired=0)
    tell(made, "roll-back", "Rolling back to v1", at - timedelta(seconds=2), detail=made.cause_sentence)
    tell(made, "return", "Rolled back to v1", at, detail=made.cause_sentence)
    return made


def rollout_promoted(
    *, of: Endpoint | None = None, watching: bool = True, now: datetime | None = None
) -> Rollout:
    """All traffic on the candidate; the old variant is kept warm while `watching`."""
    at = now or right_now()
    made = rollout_progressing(of=of, step=2, intervals=40, now=at - timedelta(seconds=30))
    made.phase = Phase.SUCCEEDED.value
    made.step_index = len(PLAN.steps)
    made.reason = "Promoted: v2 has all traffic, read back from the router."
    made.next_step = "v1 stays warm for 15 min and takes over again by itself if needed."
    made.decided_at = at - timedelta(seconds=32)
    made.promoted_at = made.finished_at = at - timedelta(seconds=30)
    made.watching, made.watch_until = watching, at + timedelta(minutes=14)
    made.revision += 2
    made.save()
    made.endpoint.stable, made.endpoint.previous = made.candidate, made.baseline
    made.endpoint.desired_shares = made.endpoint.observed_shares = {made.candidate.name: 10_000}
    made.endpoint.save()
    made.arms.filter(name="baseline").update(desired_bp=0, observed_bp=0)
    made.arms.filter(name="candidate").update(desired_bp=10_000, observed_bp=10_000)
    tell(
        made, "promote", "Promotion decided", at - timedelta(seconds=32), detail="Every required gate passed."
    )
    tell(
        made,
        "finish",
        "Promoted v2",
        at - timedelta(seconds=30),
        detail="all traffic, read back from the router",
    )
    return made


def _measure(made: Rollout, shares: Sequence[int], *, candidate: Behaviour, began: datetime) -> FamilyVerdict:
    """Stores of an interval a share what the loop stores: evidence, totals and the last verdict."""
    policy = made.gate_policy.policy
    totals = {"baseline": [0, 0], "candidate": [0, 0]}
    outcomes: dict[str, Outcomes] = dict.fromkeys(totals, Outcomes())
    completions: dict[str, Completions] = dict.fromkeys(totals, Completions(0))
    rows = []
    before = None
    course = _course(policy, tuple(shares), candidate)
    for index, (share, (measured, _, family)) in enumerate(zip(shares, course, strict=True)):
        started = began + timedelta(seconds=index * INTERVAL_SECONDS)
        ended = started + timedelta(seconds=INTERVAL_SECONDS)
        interval = replace(measured, started_at=started.timestamp())
        for name, arm in interval.arms.items():
            outcomes[name] = outcomes[name].plus(arm.outcomes or Outcomes())
            completions[name] = completions[name].plus(arm.completions or Completions(0))
            totals[name][0] += arm.requests
            totals[name][1] += arm.errors
        situation = Situation(
            ended.timestamp(),
            _view(made, share, started, ended),
            _seen(made),
            {"candidate": WorkloadFacts()},
            software(),
        )
        decision = decide(
            situation.rollout, situation.seen, GatesAnalysis.gates_view(family, policy), situation.now
        )
        parts = {
            "interval": interval.to_json(),
            "situation": situation.to_json(),
            "verdicts": family.to_json(),
            "decision": decision.to_json(),
        }
        before = evidence_digest(before=before, **parts)
        rows.append(Evidence(rollout=made, index=index, ended_at=ended, digest=before, **parts))
    Evidence.objects.bulk_create(rows)
    _, state, family = course[-1]
    made.gates_state = state.to_json()
    made.verdicts = family.to_json()
    made.next_interval = len(rows)
    for row in made.arms.all():
        row.requests, row.errors = totals[row.name]
        row.failed = row.errors
        row.outcomes, row.completions = outcomes[row.name].to_json(), completions[row.name].to_json()
        row.desired_bp = row.observed_bp = shares[-1] if row.name == "candidate" else 10_000 - shares[-1]
        row.save()
    return family


@lru_cache(maxsize=32)  # many tests tell the same course, and the arithmetic is what takes their time
def _course(
    policy: GatePolicy, shares: tuple[int, ...], candidate: Behaviour
) -> tuple[tuple[Interval, GatesState, FamilyVerdict], ...]:
    """Draws an interval a share, which began at no time of day, and feeds the real gates."""
    rng = np.random.default_rng(7)
    state = GatesState.initial(policy)
    course = []
    for index, share in enumerate(shares):
        arms = {}
        for name, part, behaviour in (
            ("baseline", 10_000 - share, BASELINE),
            ("candidate", share, candidate),
        ):
            requests = int(rng.poisson(100 * INTERVAL_SECONDS * part / 10_000 * 0.2 + 1))
            errors = int(rng.binomial(requests, behaviour.errors))
            answers = requests - errors
            ratings = int(rng.binomial(answers, 0.3))
            arms[name] = ArmCounts(
                requests=requests,
                errors=errors,
                arrived=requests + requests // 12,
                ready=1.0,
                latency={"ttft": latency_counts(rng, answers, behaviour.slow)},
                answers=answers,
                thumbs_down=int(rng.binomial(ratings, 1 - behaviour.score)),
                ratings=ratings,
                outcomes=Outcomes(
                    answered=answers, failed=errors, abandoned_midway=requests // 12, running=1
                ),
                completions=Completions(
                    answers, empty=answers // 90, truncated=answers // 14, tokens=answers * 21
                ),
            )
        pairs = tuple(
            ProbePair(
                str(int(rng.integers(12))),
                float(rng.random() < BASELINE.score),
                float(rng.random() < candidate.score),
            )
            for _ in range(8)
        )
        interval = Interval(
            index=index,
            started_at=0.0,
            seconds=INTERVAL_SECONDS,
            share_bp=share,
            arms=arms,
            pairs={"candidate": pairs},
        )
        state = state.update(interval)
        course.append((interval, state, state.assess(workload=WorkloadFacts())))
    return tuple(course)


def _view(made: Rollout, share: int, started: datetime, ended: datetime) -> RolloutView:
    """The rollout as the loop saw it at the end of an interval: in the step of that share, since it began."""
    step = next(index for index, step in enumerate(PLAN.steps) if step.share_bp == share)
    return replace(
        view_of(made), step_index=step, step_since=started.timestamp(), measured_at=ended.timestamp()
    )


def _seen(made: Rollout) -> Seen:
    """Both engines ready, the router as asked."""
    names = made.baseline.name, made.candidate.name
    return Seen(
        engines={name: EngineView(name, WorkloadPhase.READY, ready=1, desired=1) for name in names},
        desired_shares=made.endpoint.desired_shares,
        in_force=True,
        routed=frozenset(names),
        split=made.endpoint.desired_shares,
        healthy=frozenset(names),
    )


def tell(
    made: Rollout, kind: str, title: str, at: datetime, *, detail: str = "", actor: str = "Headgate"
) -> None:
    HistoryEvent.objects.create(
        endpoint=made.endpoint, rollout=made, at=at, kind=kind, title=title, detail=detail, actor=actor
    )
