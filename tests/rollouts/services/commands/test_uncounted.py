"""Ratings that count for nobody are counted by the hour."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from rollouts.domain.uncounted import Uncounted
from rollouts.models import Endpoint, UncountedRatings
from rollouts.services.commands.uncounted import count_uncounted
from tests import factories

pytestmark = pytest.mark.django_db
NOW = factories.right_now().replace(minute=10, second=5)


@pytest.fixture
def endpoint() -> Endpoint:
    return factories.endpoint(now=NOW)


def test_count__twice_in_an_hour__are_added_up_class_by_class(endpoint: Endpoint) -> None:
    count_uncounted(endpoint=endpoint, more=Uncounted(unverifiable=3, forced=1), now=NOW)
    count_uncounted(endpoint=endpoint, more=Uncounted(refused=2, forced=4), now=NOW + timedelta(minutes=49))
    row = UncountedRatings.objects.get()
    assert (row.unverifiable, row.forced, row.refused) == (3, 5, 2)
    assert row.hour == NOW.replace(minute=0, second=0)


def test_count__in_the_next_hour__is_a_row_of_its_own(endpoint: Endpoint) -> None:
    for later in (timedelta(0), timedelta(minutes=50)):
        count_uncounted(endpoint=endpoint, more=Uncounted(forced=1), now=NOW + later)
    assert list(UncountedRatings.objects.values_list("forced", flat=True)) == [1, 1]


def test_count__of_another_endpoint__is_not_mixed_up(endpoint: Endpoint) -> None:
    other = factories.endpoint("another", now=NOW)
    count_uncounted(endpoint=endpoint, more=Uncounted(forced=1), now=NOW)
    count_uncounted(endpoint=other, more=Uncounted(forced=7), now=NOW)
    assert UncountedRatings.objects.get(endpoint=endpoint).forced == 1


def test_count__nothing__asks_and_writes_nothing(endpoint: Endpoint) -> None:
    with CaptureQueriesContext(connection) as asked:
        count_uncounted(endpoint=endpoint, more=Uncounted(), now=NOW)
    assert len(asked) == 0


def test_count__another_process_counted_since_the_row_was_read__both_are_kept(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    count_uncounted(endpoint=endpoint, more=Uncounted(forced=1), now=NOW)
    find = UncountedRatings.objects.get_or_create

    def then_another_counts(**hour: Any) -> Any:
        found = find(**hour)
        UncountedRatings.objects.update(forced=100)
        return found

    monkeypatch.setattr(UncountedRatings.objects, "get_or_create", then_another_counts)
    count_uncounted(endpoint=endpoint, more=Uncounted(forced=1), now=NOW)
    assert UncountedRatings.objects.get().forced == 101
