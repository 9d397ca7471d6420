"""What an interval needs of the past: probes not used yet, and earlier intervals once their ratings are in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from rollouts.models import Evidence, Feedback, ProbeResult, Rollout
from rollouts.services.loop.past import MOST_AT_ONCE, Past, read_pasts
from tests import factories

pytestmark = pytest.mark.django_db
NOW = factories.right_now()


@pytest.fixture
def rollout() -> Rollout:
    """With 26 intervals of 5 s, the last of which ends now; none of their ratings were fed."""
    made = factories.rollout_progressing(now=NOW)
    assert made.next_interval > 10
    return made


def past(rollout: Rollout, before: datetime = NOW) -> Past:
    rollout.refresh_from_db()
    return read_pasts([rollout], ripe_before=before)[rollout.pk]


def indexes(found: Past) -> list[int] | None:
    return None if found.rated is None else [row.index for row in found.rated]


def probe(rollout: Rollout, number: int, interval: int | None) -> ProbeResult:
    golden = rollout.endpoint.golden_set
    assert golden is not None
    return ProbeResult.objects.create(
        rollout=rollout, number=number, example=golden.examples.all()[number], asked_at=NOW, interval=interval
    )


def test_probes__used_by_an_interval__are_left_out(rollout: Rollout) -> None:
    probe(rollout, 0, interval=4)
    fresh = [probe(rollout, number, interval=None) for number in (1, 2)]
    assert list(past(rollout).probes) == fresh


def test_rated__intervals_that_ended_long_enough_ago__are_given_in_their_order(rollout: Rollout) -> None:
    ends = list(Evidence.objects.order_by("index").values_list("ended_at", flat=True))
    assert indexes(past(rollout, ends[3])) == [0, 1, 2, 3]
    assert indexes(past(rollout, ends[0] - timedelta(seconds=1))) == []


def test_rated__some_were_fed__begins_with_the_one_before_the_first_that_was_not(rollout: Rollout) -> None:
    Rollout.objects.update(feedback_interval=4)
    ends = list(Evidence.objects.order_by("index").values_list("ended_at", flat=True))
    assert indexes(past(rollout, ends[5])) == [3, 4, 5]


@pytest.mark.parametrize("missing", [3, 5], ids=["the first one needed", "one of those behind it"])
def test_rated__a_row_is_missing__are_to_be_read_one_by_one(rollout: Rollout, missing: int) -> None:
    Rollout.objects.update(feedback_interval=4)
    Evidence.objects.filter(index=missing).delete()
    assert past(rollout).rated is None


def test_rated__after_a_long_standstill__are_so_many_at_once(
    rollout: Rollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rollouts.services.loop.past.MOST_AT_ONCE", 6)
    assert indexes(past(rollout)) == list(range(6))
    assert MOST_AT_ONCE > 6


def test_ratings__of_intervals_as_old_as_usual__come_with_them(rollout: Rollout) -> None:
    first = Evidence.objects.order_by("index")[0]
    began = datetime.fromtimestamp(first.interval["started_at"], tz=UTC)
    for number, at in enumerate((began + timedelta(seconds=1), began - timedelta(seconds=1))):
        Feedback.objects.create(
            request_id=f"r-{number}", endpoint=rollout.endpoint, variant=rollout.baseline.name, up=False,
            assigned=rollout.baseline.name, received_at=at, answered_at=at, state="verified",
        )  # fmt: skip
    found = past(rollout).ratings
    assert found is not None
    assert len(found) == 1


def test_ratings__of_older_intervals__are_to_be_asked_for_by_themselves(rollout: Rollout) -> None:
    assert past(rollout, NOW + timedelta(hours=1)).ratings is None


def test_read__more_rollouts__cost_no_more_queries(rollout: Rollout) -> None:
    other = factories.rollout_progressing(of=factories.endpoint("another", now=NOW), now=NOW)
    costs = []
    for some in ([rollout], [rollout, other]):
        with CaptureQueriesContext(connection) as asked:
            found = read_pasts(some, ripe_before=NOW)
        assert {len(one.rated or ()) for one in found.values()} == {rollout.next_interval}
        costs.append(len(asked))
    assert costs == [3, 3]
