"""One worker at a time writes for an endpoint, and whoever lost it writes nothing more."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from controlplane.kernel.errors import StaleWriter
from rollouts.models import Endpoint
from rollouts.services.loop.leases import (
    LEASE,
    Lease,
    claim_endpoints,
    hold,
    hold_together,
    look_soon,
    raise_token,
    release,
)
from tests import factories

pytestmark = pytest.mark.django_db
NOW = factories.right_now()
LATER = NOW + LEASE + timedelta(seconds=1)


@pytest.fixture
def numbers() -> list[int]:
    return [factories.endpoint(name, now=NOW).pk for name in ("triage", "another", "a-third")]


def claim(numbers: list[int], owner: str = "turn", *, now: datetime = NOW) -> list[Lease]:
    return claim_endpoints(endpoint_ids=numbers, owner=owner, now=now)


def row(number: int) -> Endpoint:
    return Endpoint.objects.get(pk=number)


def test_claim__that_nobody_holds__are_taken_in_the_order_of_their_numbers(numbers: list[int]) -> None:
    leases = claim(numbers[::-1])
    assert [lease.endpoint_id for lease in leases] == sorted(numbers)
    assert {lease.token for lease in leases} == {1}
    assert {row(number).lease_until for number in numbers} == {NOW + LEASE}


def test_claim__held_by_another__is_left_out(numbers: list[int]) -> None:
    claim(numbers[:1], "another")
    assert [lease.endpoint_id for lease in claim(numbers)] == numbers[1:]
    assert row(numbers[0]).lease_owner == "another"


def test_claim__ran_out__is_taken_with_a_larger_token(numbers: list[int]) -> None:
    (first,) = claim(numbers[:1])
    (second,) = claim(numbers[:1], "another", now=LATER)
    assert second.token == first.token + 1


def test_claim__made_by_a_clock_that_showed_much_later__holds_nothing(numbers: list[int]) -> None:
    claim(numbers[:1], "another", now=NOW + timedelta(hours=1))
    assert len(claim(numbers[:1])) == 1


def test_claim__of_nothing__takes_nothing(numbers: list[int]) -> None:
    assert claim([]) == []
    assert not Endpoint.objects.exclude(lease_owner="").exists()


def test_hold__ours__lasts_as_long_again(numbers: list[int]) -> None:
    (lease,) = claim(numbers[:1])
    hold(lease, now=NOW + timedelta(seconds=40))
    assert row(numbers[0]).lease_until == NOW + timedelta(seconds=40) + LEASE


def test_hold__ran_out_and_nobody_took_it__is_still_ours(numbers: list[int]) -> None:
    (lease,) = claim(numbers[:1])
    hold(lease, now=LATER)
    assert row(numbers[0]).lease_until == LATER + LEASE


@pytest.mark.parametrize("owner", ["turn", "another"], ids=["by the same name", "by another"])
def test_hold__taken_by_a_newer_one__is_stale_and_changes_nothing(numbers: list[int], owner: str) -> None:
    (first,) = claim(numbers[:1])
    claim(numbers[:1], owner, now=LATER)
    with pytest.raises(StaleWriter):
        hold(first, now=LATER + timedelta(seconds=5))
    assert row(numbers[0]).lease_until == LATER + LEASE


def test_hold_together__one_was_lost__gives_the_others_and_leaves_it_alone(numbers: list[int]) -> None:
    leases = claim(numbers)
    Endpoint.objects.filter(pk=numbers[1]).update(lease_until=None)
    claim([numbers[1]], "another")
    later = NOW + timedelta(seconds=40)
    assert hold_together(leases, now=later) == [leases[0], leases[2]]
    assert [row(number).lease_until for number in numbers] == [later + LEASE, NOW + LEASE, later + LEASE]


def test_hold_together__none__asks_nothing() -> None:
    with CaptureQueriesContext(connection) as asked:
        assert hold_together([], now=NOW) == []
    assert len(asked) == 0


def test_release__looked_at__is_free_at_once_and_looked_at_again_when_it_says(numbers: list[int]) -> None:
    first, second, _ = claim(numbers)
    moment = NOW + timedelta(seconds=9)
    release({first: moment, second: None}, now=NOW + timedelta(seconds=1))
    looked, not_looked, held = (row(number) for number in numbers)
    assert (looked.lease_owner, looked.lease_until, looked.next_look_at) == ("", None, moment)
    assert looked.reconciled_at == NOW + timedelta(seconds=1)
    assert (not_looked.next_look_at, not_looked.reconciled_at) == (None, NOW)
    assert held.lease_owner == "turn"


def test_release__somebody_asked_for_a_look_meanwhile__gets_it(numbers: list[int]) -> None:
    first, second, _ = claim(numbers)
    look_soon(pk=numbers[0])
    moment = NOW + timedelta(seconds=9)
    release({first: moment, second: moment}, now=NOW)
    assert (row(numbers[0]).next_look_at, row(numbers[1]).next_look_at) == (None, moment)


def test_release__was_lost__leaves_the_newer_one_its_lease(numbers: list[int]) -> None:
    (first,) = claim(numbers[:1])
    claim(numbers[:1], "another", now=LATER)
    release({first: None}, now=LATER)
    assert (row(numbers[0]).lease_owner, row(numbers[0]).lease_until) == ("another", LATER + LEASE)


def test_look_soon__with_a_filter__wakes_those_only(numbers: list[int]) -> None:
    Endpoint.objects.update(next_look_at=LATER)
    look_soon(name__in=["triage", "a-third"])
    assert [row(number).next_look_at for number in numbers] == [None, LATER, None]


def test_raise_token__above_a_strangers__the_next_lease_is_larger(numbers: list[int]) -> None:
    (lease,) = claim(numbers[:1])
    raise_token(lease, above=900)
    assert [one.token for one in claim(numbers[:1], "another")] == [901]
    with pytest.raises(StaleWriter):
        raise_token(lease, above=9_000)
    assert row(numbers[0]).fencing_token == 901
