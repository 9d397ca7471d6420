"""Minutes of an endpoint, for the charts of the last 24 hours."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rollouts.domain.counters import Difference, reading_from_json
from rollouts.models import Endpoint, MinuteSample, Variant
from rollouts.ports import SignalReading


def add_sample(*, endpoint: Endpoint, made: Difference, reading: SignalReading, now: datetime) -> None:
    """Adds an interval to the minute that it ended in. Runs under the endpoint's lease, so nobody else adds."""
    last = reading_from_json(endpoint.last_reading or {})
    before = last.engines if last is not None else {}
    # The router goes on reporting every variant it ever knew; one that neither runs nor is asked has no minute.
    there = [name for name, counts in made.arms.items() if counts.requests or counts.ready]
    variants = Variant.objects.filter(endpoint=endpoint, name__in=there)
    for variant in variants:
        counts = made.arms[variant.name]
        sample, _ = MinuteSample.objects.get_or_create(
            endpoint=endpoint, variant=variant, minute=now.replace(second=0, microsecond=0)
        )
        sample.requests += counts.requests
        sample.errors += counts.errors
        sample.seconds += made.seconds
        sample.latency = sample.latency | {
            signal: _added(sample.latency.get(signal), latency.to_json())
            for signal, latency in counts.latency.items()
        }
        sample.ready = counts.ready
        engine = reading.engines.get(variant.name)
        if engine is not None:
            sample.kv_cache_share = engine.kv_cache_share
            then = before.get(variant.name, engine)
            sample.tokens += max(0, engine.generated_tokens - then.generated_tokens)
        sample.save()


def _added(kept: Mapping[str, Any] | None, more: Mapping[str, Any]) -> dict[str, Any]:
    if kept is None:
        return dict(more)
    over = dict(kept["over"])
    for edge, count in more["over"]:
        over[edge] = over.get(edge, 0) + count
    return {"total": kept["total"] + more["total"], "over": [[edge, over[edge]] for edge in sorted(over)]}
