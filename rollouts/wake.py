"""A wake-up for the loop after a person's command, so that nobody waits for the next tick."""

from __future__ import annotations

import logging

from celery import current_app
from kombu.exceptions import OperationalError

from controlplane.kernel.clock import MESSAGE_SECONDS

log = logging.getLogger(__name__)


def wake(endpoint_id: int) -> None:
    """Asks a worker to look at an endpoint now. Without a broker the next tick does the same."""
    try:
        # By name: pages and API stand beside the tasks and do not import them.
        current_app.send_task(
            "rollouts.reconcile_endpoint", (endpoint_id,), expires=MESSAGE_SECONDS, retry=False
        )
    except (OperationalError, OSError) as error:
        log.warning("loop.not_woken endpoint=%s %s", endpoint_id, error)
