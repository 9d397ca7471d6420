"""Minutes of an endpoint, for the charts and the table of the last 24 hours."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from rollouts.domain.counters import Difference, reading_from_json
from rollouts.domain.intervals import ArmCounts, Completions, LatencyCounts, Outcomes
from rollouts.domain.readings import SignalReading
from rollouts.models import Endpoint, MinuteSample, OtherCalls, UncountedRatings, Variant

KEPT = timedelta(hours=48)


def add_sample(*, endpoint: Endpoint, made: Difference, reading: SignalReading, now: datetime) -> None:
    """Adds an interval to the minute that it ended in. The endpoint's lease keeps other workers from adding to it."""
    minute = now.replace(second=0, microsecond=0)
    if made.other or made.turned_away:
        calls, _ = OtherCalls.objects.get_or_create(endpoint=endpoint, minute=minute)
        calls.no_inference += made.other
        calls.turned_away += made.turned_away
        calls.save()
    last = reading_from_json(endpoint.last_reading or {})
    before = last.engines if last is not None else {}
    # The router goes on reporting every variant it ever knew; one that neither runs nor is asked has no minute.
    there = [name for name, counts in made.arms.items() if _was_asked(counts) or counts.ready]
    variants = Variant.objects.filter(endpoint=endpoint, name__in=there)
    for variant in variants:
        counts = made.arms[variant.name]
        sample, _ = MinuteSample.objects.get_or_create(endpoint=endpoint, variant=variant, minute=minute)
        sample.requests += counts.requests
        sample.errors += counts.errors
        sample.seconds += made.seconds
        sample.latency = sample.latency | {
            signal: _latency(sample.latency.get(signal), latency)
            for signal, latency in counts.latency.items()
        }
        sample.outcomes = outcomes_with(sample.outcomes, counts.outcomes)
        sample.completions = completions_with(sample.completions, counts.completions)
        sample.ready = counts.ready
        engine = reading.engines.get(variant.name)
        if engine is not None:
            sample.kv_cache_share = engine.kv_cache_share
            then = before.get(variant.name, engine)
            sample.tokens += max(0, engine.generated_tokens - then.generated_tokens)
        sample.save()


def outcomes_with(kept: Mapping[str, Any], more: Outcomes | None) -> dict[str, int]:
    """The sum as it is kept; what was not counted adds nothing."""
    if more is None:
        return dict(kept)
    return (Outcomes.from_json(kept).plus(more) if kept else more).to_json()


def completions_with(kept: Mapping[str, Any], more: Completions | None) -> dict[str, int]:
    """The sum as it is kept; what the engine did not say adds nothing."""
    if more is None:
        return dict(kept)
    return (Completions.from_json(kept).plus(more) if kept else more).to_json()


def prune_samples(*, now: datetime) -> None:
    """Deletes the minutes and hours whose retention is over."""
    MinuteSample.objects.filter(minute__lt=now - KEPT).delete()
    OtherCalls.objects.filter(minute__lt=now - KEPT).delete()
    UncountedRatings.objects.filter(hour__lt=now - KEPT).delete()


def _was_asked(counts: ArmCounts) -> bool:
    """Those who left count too, and so do those who still wait: `requests` knows neither."""
    return bool(counts.requests or counts.arrived or (counts.outcomes and counts.outcomes.ended))


def _latency(kept: Mapping[str, Any] | None, more: LatencyCounts) -> dict[str, Any]:
    return (more if kept is None else LatencyCounts.from_json(kept).plus(more)).to_json()
