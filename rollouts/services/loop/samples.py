"""Minutes of an endpoint, for the charts and the table of the last 24 hours."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rollouts.domain.record.counters import Difference
from rollouts.domain.record.intervals import ArmCounts, Completions, LatencyCounts, Outcomes
from rollouts.domain.record.kept_readings import reading_from_json
from rollouts.domain.record.readings import SignalReading
from rollouts.models import Endpoint, MinuteSample, OtherCalls, UncountedRatings, Variant
from rollouts.services.loop.writes import Writes

COUNTED = (
    "requests", "errors", "seconds", "latency", "ready", "kv_cache_share", "tokens", "outcomes", "completions",
)  # fmt: skip
KEPT = timedelta(hours=48)


@dataclass(frozen=True, slots=True)
class Minutes:
    """The rows of one minute of some endpoints: by endpoint and variant, and by endpoint."""

    minute: datetime
    samples: Mapping[tuple[int, int], MinuteSample]
    other_calls: Mapping[int, OtherCalls]


def read_minutes(*, endpoint_ids: Collection[int], now: datetime) -> Minutes:
    """The minute that an interval that ends now is added to. 2 queries."""
    minute = now.replace(second=0, microsecond=0)
    samples = MinuteSample.objects.filter(endpoint__in=endpoint_ids, minute=minute)
    calls = OtherCalls.objects.filter(endpoint__in=endpoint_ids, minute=minute)
    return Minutes(
        minute,
        {(sample.endpoint_id, sample.variant_id): sample for sample in samples},
        {row.endpoint_id: row for row in calls},
    )


def add_sample(
    *,
    endpoint: Endpoint,
    variants: Iterable[Variant],
    made: Difference,
    reading: SignalReading,
    minutes: Minutes,
    writes: Writes,
) -> None:
    """Adds an interval to the minute that it ended in. The endpoint's lease keeps other workers from adding to it.

    variants    of the endpoint, those that the router may report
    minutes     as they were read in this turn
    """
    if made.other or made.turned_away or made.unseen_seconds:
        _add_calls(endpoint, made, minutes, writes)
    last = reading_from_json(endpoint.last_reading or {})
    before = last.engines if last is not None else {}
    for variant in variants:
        counts = made.arms.get(variant.name)
        # The router goes on reporting every variant it ever knew; one that neither runs nor is asked has no minute.
        if counts is None or not (_was_asked(counts) or counts.ready):
            continue
        known = minutes.samples.get((endpoint.pk, variant.pk))
        sample = known or MinuteSample(endpoint=endpoint, variant=variant, minute=minutes.minute)
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
        if known is None:
            writes.create(sample)
        else:
            writes.save(sample, *COUNTED)


def _add_calls(endpoint: Endpoint, made: Difference, minutes: Minutes, writes: Writes) -> None:
    known = minutes.other_calls.get(endpoint.pk)
    calls = known or OtherCalls(endpoint=endpoint, minute=minutes.minute)
    calls.no_inference += made.other
    calls.turned_away += made.turned_away
    calls.unseen_seconds += made.unseen_seconds
    if known is None:
        writes.create(calls)
    else:
        writes.save(calls, "no_inference", "turned_away", "unseen_seconds")


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
