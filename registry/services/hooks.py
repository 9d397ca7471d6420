"""Deliveries of MLflow's webhooks."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction

from controlplane.timekeeping.jumps import now_for_retention
from registry.domain.webhooks import model_of_delivery, verify_delivery
from registry.models import HookDelivery

# MLflow repeats a delivery within a minute; a day is plenty.
KEPT_FOR = timedelta(days=1)


def receive_delivery(
    *, secret: str, delivery_id: str, timestamp: str, signature: str, body: bytes, now: datetime
) -> str | None:
    """Checks a delivery and notes it; returns the model to look at ("" when none), None when it came before.

    Raises as `registry.domain.webhooks` says; then nothing is noted.
    """
    verify_delivery(
        secret=secret,
        delivery_id=delivery_id,
        timestamp=timestamp,
        signature=signature,
        body=body,
        now=now.timestamp(),
    )
    model = model_of_delivery(body)
    with transaction.atomic():
        _, made = HookDelivery.objects.get_or_create(delivery_id=delivery_id, defaults={"received_at": now})
        # A delivery that a clock's jump made old could otherwise come a second time.
        kept_until = now_for_retention(now, longest=KEPT_FOR)
        HookDelivery.objects.filter(received_at__lt=kept_until - KEPT_FOR).delete()
    return model if made else None
