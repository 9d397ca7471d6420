"""Asks a worker to look at the store now, so that nobody waits for the next pass.

Tasks go by name: pages and API stand beside the tasks and do not import them.
"""

from __future__ import annotations

import logging

from celery import current_app
from kombu.exceptions import OperationalError

from controlplane.kernel.clock import MESSAGE_SECONDS

log = logging.getLogger(__name__)


def ask_for_mirror(*models: str) -> None:
    """Reads the store soon, the named models closely. Without a broker the next pass does it."""
    try:
        current_app.send_task(
            "registry.mirror", kwargs={"models": list(models)}, expires=MESSAGE_SECONDS, retry=False
        )
    except (OperationalError, OSError) as error:
        log.warning("registry.not_woken %s", error)
