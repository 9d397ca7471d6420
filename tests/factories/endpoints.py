"""Endpoints that serve, with the minutes of their traffic."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np

from controlplane.kernel.clock import SystemClock
from controlplane.kernel.digests import digest_of
from controlplane.passes.models import ItemTrouble
from registry.models import Alias, Model
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.record.intervals import Completions, LatencyCounts, Outcomes
from rollouts.domain.restored import Restored, RestoredState
from rollouts.domain.variants import ServingSpec, variant_digest, variant_name
from rollouts.models import (
    Cluster,
    Endpoint,
    Feedback,
    FeedbackState,
    GatePolicyVersion,
    MinuteSample,
    Variant,
    Workload,
)
from rollouts.selectors import TURNS
from tests.factories.people import right_now
from tests.factories.registry import golden_set, model

POLICY_BODY = {
    "name": "triage-default",
    "version": 1,
    "alpha": 0.05,
    "baseline_outage_share": 0.2,
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


def held_after_restore(of: Endpoint, *, state: RestoredState = RestoredState.HELD) -> Endpoint:
    """The endpoint, whose database is an older copy: `triage-v9-abcdef` serves, and the database says version 1."""
    found = Restored(
        newest=900,
        since=right_now().timestamp() - 90,
        quiet=SystemClock().reading(),
        served={f"{of.name}-v9-abcdef": 10_000},
        believed=of.desired_shares,
    )
    of.restored_state, of.restored = state, found.to_json()
    of.save(update_fields=["restored_state", "restored"])
    return of


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
    Alias.objects.update_or_create(model=served, name=made.alias, defaults={"version": stable.version})
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
        backend={"kind": "address", "name": "", "address": f"127.0.0.1:{18100 + number}"} if ready else {},
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
            latency={"ttft": latency_counts(rng, requests, 0.04).to_json()},
            ready=1.0,
            kv_cache_share=float(rng.uniform(0.2, 0.3)),
            tokens=requests * 8,
            outcomes=Outcomes(
                requests - requests // 500, failed=requests // 500, abandoned_before=2
            ).to_json(),
            completions=Completions(
                requests, empty=1, truncated=requests // 20, tokens=requests * 8
            ).to_json(),
        )
        for i in range(minutes)
    )


def turns_fail(of: Endpoint, *, since: datetime, words: str = "ValueError: it is odd") -> ItemTrouble:
    """The loop cannot work on the endpoint since that moment."""
    return ItemTrouble.objects.create(
        pass_name=TURNS,
        item=str(of.pk),
        label=f"endpoint {of.name}",
        error=words,
        first_failed_at=since,
        last_attempt_at=since,
        next_attempt_at=since,
    )


def ratings(of: Endpoint, *, up: int = 30, down: int = 10, now: datetime | None = None) -> None:
    """Verified thumbs of the stable variant's answers, in the last minutes."""
    at = (now or right_now()) - timedelta(minutes=2)
    assert of.stable is not None
    Feedback.objects.bulk_create(
        Feedback(
            request_id=f"{of.name}-{number:08}",
            endpoint=of,
            variant=of.stable.name,
            assigned=of.stable.name,
            up=number < up,
            received_at=at,
            answered_at=at,
            state=FeedbackState.VERIFIED,
        )
        for number in range(up + down)
    )


def latency_counts(rng: np.random.Generator, total: int, slow: float) -> LatencyCounts:
    """A histogram of which `slow` lies over 250 ms."""
    over_250 = int(rng.binomial(total, slow))
    over_500 = int(rng.binomial(over_250, 0.3))
    over_100 = over_250 + int(rng.binomial(total - over_250, 0.2))
    over_50 = over_100 + int(rng.binomial(total - over_100, 0.3))
    return LatencyCounts(total, {0.05: over_50, 0.1: over_100, 0.25: over_250, 0.5: over_500, 1.0: 0})
