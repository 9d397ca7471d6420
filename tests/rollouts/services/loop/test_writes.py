"""What turns want written is written together: only the columns that were named, each row its own values."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import DataError, connection, transaction
from django.test.utils import CaptureQueriesContext

from controlplane.web.models import LiveEvent
from rollouts.models import Endpoint, MinuteSample, OtherCalls, Workload
from rollouts.services.loop import writes as module
from rollouts.services.loop.writes import Writes
from tests import factories

pytestmark = pytest.mark.django_db
NOW = factories.right_now()


@pytest.fixture
def endpoint() -> Endpoint:
    return factories.endpoint(now=NOW)


def statements(writes: Writes) -> int:
    with CaptureQueriesContext(connection) as asked:
        writes.flush(now=NOW)
    return len(asked)


def test_writes__before_they_are_flushed__nothing_is_written(endpoint: Endpoint) -> None:
    writes = Writes()
    endpoint.router_problem = "away"
    writes.save(endpoint, "router_problem")
    writes.create(OtherCalls(endpoint=endpoint, minute=NOW))
    writes.publish("overview")
    assert Endpoint.objects.get().router_problem == ""
    assert not OtherCalls.objects.exists()
    writes.flush(now=NOW)
    assert Endpoint.objects.get().router_problem == "away"
    assert OtherCalls.objects.exists()
    assert LiveEvent.objects.filter(topic="overview").count() == 1


def test_save__a_column_that_was_not_named__keeps_what_somebody_else_wrote(endpoint: Endpoint) -> None:
    writes = Writes()
    endpoint.router_problem, endpoint.environment = "away", "as it was read"
    writes.save(endpoint, "router_problem")
    Endpoint.objects.update(environment="as somebody changed it")
    writes.flush(now=NOW)
    found = Endpoint.objects.get()
    assert (found.router_problem, found.environment) == ("away", "as somebody changed it")


def test_save__twice__writes_both_columns_with_the_last_values(endpoint: Endpoint) -> None:
    writes = Writes()
    for problem in ("first", "last"):
        endpoint.router_problem = problem
        writes.save(endpoint, "router_problem")
    endpoint.outage, endpoint.observed_at = {"since": 1.5}, None
    writes.save(endpoint, "outage", "observed_at")
    assert statements(writes) == 1
    found = Endpoint.objects.get()
    assert (found.router_problem, found.outage, found.observed_at) == ("last", {"since": 1.5}, None)


def test_flush__many_rows_with_the_same_columns__is_one_statement_and_each_has_its_own_values() -> None:
    writes, made = Writes(), [factories.endpoint(f"endpoint-{number}", now=NOW) for number in range(4)]
    for number, row in enumerate(made):
        row.observed_shares, row.observed_at = {"v": number}, NOW + timedelta(seconds=number)
        writes.save(row, "observed_shares", "observed_at")
    assert statements(writes) == 1
    for number, row in enumerate(made):
        row.refresh_from_db()
        assert (row.observed_shares, row.observed_at) == ({"v": number}, NOW + timedelta(seconds=number))


def test_flush__more_rows_than_go_into_one_statement__writes_them_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 3)
    writes = Writes()
    for number in range(4):
        row = factories.endpoint(f"endpoint-{number}", now=NOW)
        row.environment = "changed"
        writes.save(row, "environment")
    assert statements(writes) == 2
    assert set(Endpoint.objects.values_list("environment", flat=True)) == {"changed"}


def test_flush__again__writes_nothing_twice(endpoint: Endpoint) -> None:
    writes = Writes()
    writes.create(OtherCalls(endpoint=endpoint, minute=NOW))
    writes.save(endpoint, "environment")
    writes.publish("overview")
    writes.flush(now=NOW)
    assert statements(writes) == 0
    assert OtherCalls.objects.count() == 1


def test_include__of_another_one__takes_over_columns_rows_and_topics(endpoint: Endpoint) -> None:
    assert endpoint.stable is not None
    one, other = Writes(), Writes()
    endpoint.router_problem, endpoint.environment = "away", "changed"
    one.save(endpoint, "router_problem")
    other.save(endpoint, "environment")
    other.create(MinuteSample(endpoint=endpoint, variant=endpoint.stable, minute=NOW))
    other.publish("overview")
    one.include(other)
    one.flush(now=NOW)
    found = Endpoint.objects.get()
    assert (found.router_problem, found.environment) == ("away", "changed")
    assert MinuteSample.objects.exists()
    assert LiveEvent.objects.filter(topic="overview").exists()


def test_publish__a_topic_twice__is_told_once(endpoint: Endpoint) -> None:
    writes = Writes()
    writes.publish("overview", "overview")
    writes.publish("overview")
    writes.flush(now=NOW)
    assert LiveEvent.objects.filter(topic="overview").count() == 1


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite keeps texts of any length")
def test_flush__text_that_is_too_long__is_refused_and_not_cut(endpoint: Endpoint) -> None:
    assert endpoint.stable is not None
    workload = Workload.objects.get(variant=endpoint.stable)
    workload.phase = "p" * 13
    writes = Writes()
    writes.save(workload, "phase")
    with pytest.raises(DataError), transaction.atomic():
        writes.flush(now=NOW)
