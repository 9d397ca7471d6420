"""Minutes for the charts: added up as intervals end, and forgotten after two days."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rollouts.domain.record.counters import Difference
from rollouts.domain.record.intervals import ArmCounts, LatencyCounts, Outcomes
from rollouts.domain.record.readings import SignalReading
from rollouts.models import MinuteSample, OtherCalls, Rollout
from rollouts.services.loop.samples import add_sample, prune_samples, read_minutes
from rollouts.services.loop.writes import Writes
from tests import factories

pytestmark = pytest.mark.django_db

NOW = factories.right_now().replace(second=20)


READING = SignalReading(at=0.0, targets={})


def minute(rollout: Rollout, made: Difference) -> None:
    endpoint, writes = rollout.endpoint, Writes()
    minutes = read_minutes(endpoint_ids=[endpoint.pk], now=NOW)
    variants = endpoint.variants.all()
    add_sample(
        endpoint=endpoint, variants=variants, made=made, reading=READING, minutes=minutes, writes=writes
    )
    writes.flush(now=NOW)


def test_minute__two_intervals__are_added_up_with_those_who_left() -> None:
    rollout = factories.rollout_pending(now=NOW)
    name = rollout.baseline.name
    ttft = LatencyCounts(4, {0.25: 1}, left=3, left_over={0.25: 2})
    both = ArmCounts(4, 0, 7, 1.0, {"ttft": ttft}, outcomes=Outcomes(4, abandoned_before=3, running=1))
    made = Difference(0.0, 5.0, {name: both}, {}, {}, {})
    minute(rollout, made)
    minute(rollout, made)
    sample = MinuteSample.objects.get(variant=rollout.baseline)
    assert Outcomes.from_json(sample.outcomes) == Outcomes(8, abandoned_before=6, running=1)
    assert LatencyCounts.from_json(sample.latency["ttft"]) == ttft.plus(ttft)
    assert sample.completions == {}


def test_minute__only_of_people_who_left__is_kept() -> None:
    rollout = factories.rollout_pending(now=NOW)
    left = ArmCounts(0, 0, 6, 0.0, outcomes=Outcomes(abandoned_before=6))
    minute(rollout, Difference(0.0, 5.0, {rollout.baseline.name: left}, {}, {}, {}))
    assert MinuteSample.objects.get().outcomes["abandoned_before"] == 6


def test_other_calls__by_minute__are_added_up_and_a_minute_without_any_has_no_row() -> None:
    rollout = factories.rollout_pending(now=NOW)
    minute(rollout, Difference(0.0, 5.0, {}, {}, {}, {}))
    assert not OtherCalls.objects.exists()
    minute(rollout, Difference(0.0, 5.0, {}, {}, {}, {}, other=4, turned_away=1))
    minute(rollout, Difference(0.0, 5.0, {}, {}, {}, {}, other=2))
    kept = OtherCalls.objects.get()
    assert (kept.no_inference, kept.turned_away, kept.minute) == (6, 1, NOW.replace(second=0, microsecond=0))


def test_prune_samples__older_than_two_days__both_kinds_go() -> None:
    rollout = factories.rollout_pending(now=NOW)
    for ago in (timedelta(hours=1), timedelta(hours=49)):
        OtherCalls.objects.create(endpoint=rollout.endpoint, minute=NOW - ago)
        MinuteSample.objects.create(endpoint=rollout.endpoint, variant=rollout.baseline, minute=NOW - ago)
    prune_samples(now=NOW)
    assert (OtherCalls.objects.count(), MinuteSample.objects.count()) == (1, 1)
