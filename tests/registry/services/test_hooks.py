from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from controlplane.kernel.errors import Forbidden
from controlplane.timekeeping.models import ClockJump
from registry.models import HookDelivery
from registry.services.hooks import receive_delivery
from tests.registry.domain.test_webhooks import BODY, sign

pytestmark = pytest.mark.django_db


def receive(now: datetime, delivery: str = "d-1", signature: str | None = None) -> str | None:
    timestamp = str(int(now.timestamp()))
    return receive_delivery(
        secret="s3cret",
        delivery_id=delivery,
        timestamp=timestamp,
        signature=sign(delivery=delivery, timestamp=timestamp) if signature is None else signature,
        body=BODY,
        now=now,
    )


def test_receive__first_time__names_the_model(now: datetime) -> None:
    assert receive(now) == "llama"


def test_receive__same_delivery_again__told_apart(now: datetime) -> None:
    receive(now)
    assert receive(now + timedelta(seconds=2)) is None


def test_receive__forged__refused_and_not_noted(now: datetime) -> None:
    with pytest.raises(Forbidden):
        receive(now, signature="v1,Zm9yZ2Vk")
    assert not HookDelivery.objects.exists()


def test_receive__a_day_later__old_deliveries_are_forgotten(now: datetime) -> None:
    receive(now)
    receive(now + timedelta(days=2), delivery="d-2")
    assert list(HookDelivery.objects.values_list("delivery_id", flat=True)) == ["d-2"]


def test_receive__clock_jumped_two_days_forward__deliveries_of_before_are_kept(now: datetime) -> None:
    receive(now)
    later = now + timedelta(days=2)
    ClockJump.objects.create(number=1, before=now, at=later, seconds=timedelta(days=2).total_seconds())
    receive(later, delivery="d-2")
    assert HookDelivery.objects.count() == 2
