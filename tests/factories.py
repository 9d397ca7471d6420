"""Rows at named states of life, made the way the loop makes them: evidence runs through the real gates.

Counts are drawn from a seeded generator, so a state looks the same every time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from controlplane.access.models import User
from controlplane.access.roles import Role
from controlplane.access.services import ensure_user
from controlplane.kernel.digests import digest_of
from registry.domain.manifest import Manifest, ManifestEntry
from registry.models import Alias, AliasMove, GoldenExample, GoldenSet, MirrorState, Model, Version
from rollouts.domain.gates.family import FamilyVerdict, GatesState
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.intervals import ArmCounts, Interval, LatencyCounts, ProbePair
from rollouts.domain.plan import Plan, canary
from rollouts.domain.states import PauseReason, Phase
from rollouts.domain.variants import ServingSpec, variant_digest, variant_name
from rollouts.models import (
    Arm,
    Cluster,
    Endpoint,
    Evidence,
    GatePolicyVersion,
    HistoryEvent,
    MinuteSample,
    Rollout,
    Variant,
    Workload,
)

PASSWORD = "correct horse battery"
TTFT_EDGES = (0.05, 0.1, 0.25, 0.5, 1.0)
INTERVAL_SECONDS = 5.0
POLICY_BODY = {
    "name": "triage-default",
    "version": 1,
    "alpha": 0.05,
    "gates": [
        {"key": "quality", "label": "Golden-set score", "kind": "paired", "margin": 0.05, "weight": 0.3},
        {"key": "errors", "label": "Error rate", "kind": "error_rate", "delta": 0.02, "weight": 0.3},
        {
            "key": "ttft",
            "label": "Time to first token",
            "kind": "latency_slo",
            "signal": "ttft",
            "slo_seconds": 0.25,
            "ratio": 1.5,
            "delta": 0.05,
            "weight": 0.3,
        },
        {
            "key": "thumbs",
            "label": "Thumbs down",
            "kind": "feedback",
            "delta": 0.1,
            "weight": 0.1,
            "required": False,
        },
    ],
}


def person(role: Role = Role.ENGINEER, *, username: str = "") -> User:
    """Somebody who can sign in with PASSWORD."""
    return ensure_user(username=username or role.value.replace("_", "-"), role=role, password=PASSWORD)


def right_now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


# --- registry ---------------------------------------------------------------------------------------------


def model(name: str = "triage", *, versions: int = 3, now: datetime | None = None) -> Model:
    """A mirrored model with verified versions; `production` points at the first."""
    at = now or right_now()
    made, is_new = Model.objects.get_or_create(
        name=name,
        defaults={
            "description": "Routes support tickets to the team that can answer.",
            "tags": {"owner": "support-ml"},
            "stored_updated_at": at - timedelta(hours=1),
            "synced_at": at,
        },
    )
    if is_new:
        MirrorState.objects.update_or_create(id=1, defaults={"last_success_at": at})
        for number in range(1, versions + 1):
            version(made, number, now=at)
        first = made.versions.get(number=1)
        Alias.objects.create(model=made, name="production", version=first)
        AliasMove.objects.create(
            model=made,
            alias="production",
            version=first,
            previous=None,
            asked_at=at - timedelta(days=2),
            moved_at=at - timedelta(days=2),
            by="ana",
            why="first version",
        )
    return made


def version(of: Model, number: int, *, now: datetime | None = None) -> Version:
    """A version whose files were verified, with parameters, metrics and the data set it came from."""
    at = now or right_now()
    manifest = Manifest.of(
        ManifestEntry(path, size, hashlib.sha256(f"{of.name}{number}{path}".encode()).hexdigest())
        for path, size in (("config.json", 812), ("model.safetensors", 1_204_224), ("tokenizer.json", 48_211))
    )
    accuracy = {1: 0.72, 2: 0.97, 3: 0.41}.get(number, 0.8)
    return Version.objects.create(
        model=of,
        number=number,
        status="READY",
        source=f"models:/m-{number}",
        run_id=f"{number}a41f09c2d7",
        run_name="ticket-routing",
        logged_model_id=f"m-5c7d2{number}",
        created_at=at - timedelta(hours=30 - number),
        tags={"trained_by": "mira"},
        params={"steps": str(60 * number), "learning_rate": "0.003", "hidden_size": "64"},
        metrics={"accuracy": accuracy, "loss": round(1.4 - accuracy, 3)},
        datasets=[{"name": "tickets", "digest": f"77be{number}10", "context": "training"}],
        details_at=at,
        manifest=manifest.to_json(),
        manifest_digest=manifest.digest,
        manifest_bytes=manifest.total_bytes,
        manifest_state="verified",
        manifest_checked_at=at - timedelta(minutes=3),
    )


def golden_set(name: str = "tickets", *, size: int = 12) -> GoldenSet:
    """A set of prompts with expected answers."""
    made = GoldenSet.objects.filter(name=name).first()
    if made is not None:
        return made
    made = GoldenSet.objects.create(
        name=name,
        revision=1,
        digest=digest_of({"name": name, "size": size}),
        size=size,
        created_at=right_now(),
    )
    GoldenExample.objects.bulk_create(
        GoldenExample(
            golden_set=made,
            position=i,
            messages=[{"role": "user", "content": f"ticket {i}: the invoice is wrong"}],
            expected="billing",
            scorer=GoldenExample.Scorer.EXACT,
            max_tokens=8,
        )
        for i in range(size)
    )
    return made


# --- endpoints --------------------------------------------------------------------------------------------


def gate_policy() -> GatePolicyVersion:
    policy = GatePolicy.from_json(POLICY_BODY)
    return GatePolicyVersion.objects.get_or_create(
        name=policy.name,
        version=policy.version,
        defaults={
            "body": policy.to_json(),
            "digest": digest_of(policy.to_json()),
            "created_at": right_now() - timedelta(days=3),
        },
    )[0]


def endpoint(name: str = "triage", *, of: Model | None = None, now: datetime | None = None) -> Endpoint:
    """An endpoint whose version 1 answers everything, reconciled a moment ago."""
    at = now or right_now()
    served = of or model(now=at)
    made = Endpoint.objects.create(
        name=name,
        cluster=Cluster.objects.get_or_create(name="here", defaults={"kind": "local"})[0],
        model=served,
        gate_policy=gate_policy(),
        golden_set=golden_set(),
        alias=f"{name}-production",
        created_at=at - timedelta(days=2),
        reconciled_at=at,
    )
    stable = variant(made, 1, now=at)
    made.stable = stable
    made.desired_shares = made.observed_shares = {stable.name: 10_000}
    made.desired_fallback = stable.name
    made.applied_at = made.observed_at = at
    made.save()
    return made


def variant(of: Endpoint, number: int, *, ready: bool = True, now: datetime | None = None) -> Variant:
    """Version `number` as the endpoint serves it, with a workload that is ready (or absent)."""
    at = now or right_now()
    served = of.model.versions.get(number=number)
    spec = ServingSpec(arguments={"max-model-len": 256, "max-num-seqs": 32 if number == 1 else 64})
    digest = variant_digest(manifest_digest=served.manifest_digest, spec=spec)
    made = Variant.objects.create(
        endpoint=of,
        version=served,
        digest=digest,
        name=variant_name(endpoint=of.name, version=number, digest=digest),
        serving=spec.to_json(),
        created_at=at,
    )
    Workload.objects.create(
        variant=made,
        wanted=ready,
        phase="ready" if ready else "absent",
        host="127.0.0.1" if ready else "",
        port=18100 + number if ready else 0,
        ready=int(ready),
        desired=int(ready),
        wanted_since=at - timedelta(hours=1),
        ready_at=at - timedelta(minutes=50) if ready else None,
        observed_at=at,
        kv_cache_share=0.21 + number / 100 if ready else None,
        running=1.0 if ready else None,
        waiting=0.0 if ready else None,
    )
    return made


def minutes_of_traffic(of: Endpoint, *, minutes: int = 90, now: datetime | None = None) -> None:
    """Samples of the stable variant, a minute each, up to now."""
    at = (now or right_now()).replace(second=0)
    rng = np.random.default_rng(3)
    assert of.stable is not None
    MinuteSample.objects.bulk_create(
        MinuteSample(
            endpoint=of,
            variant=of.stable,
            minute=at - timedelta(minutes=minutes - i),
            requests=(requests := int(rng.poisson(1200))),
            errors=int(rng.binomial(requests, 0.002)),
            seconds=60.0,
            latency={"ttft": _latency(rng, requests, 0.04).to_json()},
            ready=1.0,
            kv_cache_share=float(rng.uniform(0.2, 0.3)),
            tokens=requests * 8,
        )
        for i in range(minutes)
    )


# --- rollouts ---------------------------------------------------------------------------------------------


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
    _tell(made, "start-rollout", f"Rollout of {candidate.name} started", at, actor=person().username)
    return made


def rollout_launching(*, of: Endpoint | None = None, number: int = 2, now: datetime | None = None) -> Rollout:
    """The engine loads."""
    at = now or right_now()
    made = rollout_pending(of=of, number=number, now=at - timedelta(seconds=20))
    made.phase = Phase.PROVISIONING.value
    made.revision = 2
    made.reason = f"Waiting for {made.candidate.name} to be ready, 18 s so far: loading weights."
    made.next_step = "When it answered a warm-up request, 5% of the traffic moves."
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
    _tell(made, "provision", f"Launching {made.candidate.name}", at - timedelta(seconds=18))
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
    _tell(made, "roll-back", "Rolling back to v1", at - timedelta(seconds=4), detail=sentence)
    _tell(made, "return", "Rolled back to v1", at, detail=sentence)
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
        host="127.0.0.1",
        port=18102,
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
    _tell(made, "provision", f"Launching {made.candidate.name}", began - timedelta(seconds=66))
    before = 0.0
    for i in range(step + 1):
        moved = began + timedelta(seconds=i * per_step * INTERVAL_SECONDS)
        target = PLAN.steps[i].share_bp / 100
        _tell(
            made,
            "advance" if i else "start",
            f"Moving traffic {before:g}% to {target:g}%",
            moved,
            detail="route read back, forced request answered by the candidate" if not i else "no gate failed",
        )
        before = target
    return made


def rollout_paused(*, of: Endpoint | None = None, now: datetime | None = None) -> Rollout:
    """Held by a person at 25 %."""
    at = now or right_now()
    made = rollout_progressing(of=of, now=at)
    made.phase, made.pause_reason = Phase.PAUSED.value, PauseReason.PERSON.value
    made.reason = "ana paused the rollout. Waiting for the support lead."
    made.next_step = "It holds until somebody resumes; a failed gate still rolls back."
    made.revision += 1
    made.save()
    _tell(made, "pause", "Held at 25%", at, detail=made.reason, actor="ana")
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
    _tell(made, "roll-back", "Rolling back to v1", at - timedelta(seconds=2), detail=made.cause_sentence)
    _tell(made, "return", "Rolled back to v1", at, detail=made.cause_sentence)
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
    made.next_step = "v1 stays warm for 15 min and would take over again by itself."
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
    _tell(
        made, "promote", "Promotion decided", at - timedelta(seconds=32), detail="Every required gate passed."
    )
    _tell(
        made,
        "finish",
        "Promoted v2",
        at - timedelta(seconds=30),
        detail="all traffic, read back from the router",
    )
    return made


def _measure(made: Rollout, shares: Sequence[int], *, candidate: Behaviour, began: datetime) -> FamilyVerdict:
    """Draws an interval a share, feeds the real gates and stores evidence, totals and the last verdict."""
    rng = np.random.default_rng(7)
    policy = made.gate_policy.policy
    state = GatesState.initial(policy)
    totals = {"baseline": [0, 0], "candidate": [0, 0]}
    rows = []
    family: FamilyVerdict | None = None
    for index, share in enumerate(shares):
        started = began + timedelta(seconds=index * INTERVAL_SECONDS)
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
                arrived=requests,
                ready=1.0,
                latency={"ttft": _latency(rng, answers, behaviour.slow)},
                answers=answers,
                thumbs_down=int(rng.binomial(ratings, 1 - behaviour.score)),
                ratings=ratings,
            )
            totals[name][0] += requests
            totals[name][1] += errors
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
            started_at=started.timestamp(),
            seconds=INTERVAL_SECONDS,
            share_bp=share,
            arms=arms,
            pairs={"candidate": pairs},
        )
        state = state.update(interval)
        family = state.assess()
        rows.append(
            Evidence(
                rollout=made,
                index=index,
                ended_at=started + timedelta(seconds=INTERVAL_SECONDS),
                interval=interval.to_json(),
                verdicts=family.to_json(),
                decision={"phase": "progressing"},
                digest=digest_of(interval.to_json()),
            )
        )
    assert family is not None
    Evidence.objects.bulk_create(rows)
    made.gates_state = state.to_json()
    made.verdicts = family.to_json()
    made.next_interval = len(rows)
    for arm in made.arms.all():
        arm.requests, arm.errors = totals[arm.name]
        arm.failed = arm.errors
        arm.desired_bp = arm.observed_bp = shares[-1] if arm.name == "candidate" else 10_000 - shares[-1]
        arm.save()
    return family


def _latency(rng: np.random.Generator, total: int, slow: float) -> LatencyCounts:
    """A histogram of which `slow` lies over 250 ms."""
    over_250 = int(rng.binomial(total, slow))
    over_500 = int(rng.binomial(over_250, 0.3))
    over_100 = over_250 + int(rng.binomial(total - over_250, 0.2))
    over_50 = over_100 + int(rng.binomial(total - over_100, 0.3))
    return LatencyCounts(total, {0.05: over_50, 0.1: over_100, 0.25: over_250, 0.5: over_500, 1.0: 0})


def _tell(
    made: Rollout, kind: str, title: str, at: datetime, *, detail: str = "", actor: str = "Headgate"
) -> None:
    HistoryEvent.objects.create(
        endpoint=made.endpoint, rollout=made, at=at, kind=kind, title=title, detail=detail, actor=actor
    )


def plan_of(made: Rollout) -> Plan:
    return Plan.from_json(made.plan)
