"""A wake-up for the loop after a person's command, so that nobody waits for the next tick."""

from __future__ import annotations

import logging

from kombu.exceptions import OperationalError

from rollouts.tasks import reconcile_endpoint_now

log = logging.getLogger(__name__)


def wake(endpoint_id: int) -> None:
    """Asks a worker to look at an endpoint now. Without a broker the next tick does the same."""
    try:
        reconcile_endpoint_now.apply_async((endpoint_id,), expires=10, retry=False)
    except (OperationalError, OSError) as error:
        log.warning("loop.not_woken endpoint=%s %s", endpoint_id, error)
