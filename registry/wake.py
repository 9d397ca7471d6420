"""Asks a worker to look at the store now, so that nobody waits for the next pass."""

from __future__ import annotations

import logging

from kombu.exceptions import OperationalError

from registry.tasks import mirror, verify

log = logging.getLogger(__name__)


def ask_for_mirror(*models: str) -> None:
    """Reads the store soon, the named models closely. Without a broker the next pass does it."""
    try:
        mirror.apply_async(kwargs={"models": list(models)}, expires=60, retry=False)
    except (OperationalError, OSError) as error:
        log.warning("registry.not_woken %s", error)


def ask_for_check(version_id: int) -> bool:
    """Compares a version's files with its manifest soon. False when no worker can be asked."""
    try:
        verify.apply_async((version_id,), expires=3600, retry=False)
    except (OperationalError, OSError) as error:
        log.warning("registry.not_woken %s", error)
        return False
    return True
