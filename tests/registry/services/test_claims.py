from __future__ import annotations

from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest
from django.db import DatabaseError

from controlplane.kernel.clock import ManualClock
from registry.adapters.model_stores.memory import MemoryModelStore
from registry.models import Version
from registry.selectors import CLAIM_LIFETIME
from registry.services.claims import claimed
from registry.services.mirror import mirror_models

pytestmark = pytest.mark.django_db


class Steady:
    """A monotonic clock in the hands of the test."""

    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def steady(monkeypatch: pytest.MonkeyPatch) -> Steady:
    made = Steady()
    monkeypatch.setattr("registry.services.claims.time", SimpleNamespace(monotonic=made.monotonic))
    return made


@pytest.fixture
def version(memory_store: MemoryModelStore, now: datetime) -> Version:
    memory_store.add_model("llama")
    memory_store.add_version("llama", {})
    mirror_models(store=memory_store, clock=ManualClock(now))
    return Version.objects.select_related("model").get()


def is_mine(version: Version, now: datetime) -> bool:
    with claimed(version, now) as claim:
        return claim is not None


def test_claimed__held_by_another__none_until_it_is_released(version: Version, now: datetime) -> None:
    with claimed(version, now):
        assert not is_mine(version, now)
    assert is_mine(version, now)


def test_claimed__changed_state_since_it_was_read__none(version: Version, now: datetime) -> None:
    Version.objects.update(manifest=[])
    assert not is_mine(version, now)


def test_push_on__works_for_hours__nobody_else_gets_it(
    version: Version, now: datetime, steady: Steady
) -> None:
    with claimed(version, now) as claim:
        assert claim is not None
        for minute in range(1, 180):
            steady.seconds = minute * 60.0
            claim.push_on()
            assert not is_mine(version, now + timedelta(minutes=minute))


def test_push_on__stops_working__another_gets_it_and_keeps_it(
    version: Version, now: datetime, steady: Steady
) -> None:
    with claimed(version, now) as claim:
        assert claim is not None
        later = now + CLAIM_LIFETIME
        with claimed(version, later) as other:
            assert other is not None
            steady.seconds = CLAIM_LIFETIME.total_seconds()
            claim.push_on()
            claim.release()
            assert not is_mine(version, later + CLAIM_LIFETIME - timedelta(seconds=1))


def test_push_on__called_for_every_piece__writes_once_a_minute(
    version: Version, now: datetime, steady: Steady, django_assert_num_queries: pytest.FixtureRequest
) -> None:
    with claimed(version, now) as claim:
        assert claim is not None
        steady.seconds = 61.0
        with django_assert_num_queries(1):  # type: ignore[operator]
            for _ in range(100):
                claim.push_on()


def test_push_on__database_fails__the_work_goes_on_and_it_is_tried_again(
    version: Version, now: datetime, steady: Steady, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: object) -> None:
        raise DatabaseError("locked")

    with claimed(version, now) as claim:
        assert claim is not None
        steady.seconds = 61.0
        with monkeypatch.context() as faulty:
            faulty.setattr("registry.services.claims.Claim._mine", fails)
            claim.push_on()
        steady.seconds = 122.0
        claim.push_on()
        assert claim.until == now + timedelta(seconds=122) + CLAIM_LIFETIME
