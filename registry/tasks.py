"""Tasks: thin, each calls one service. A pass that is lost costs nothing: the next one reads the same
store.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from celery import shared_task
from django.utils import timezone

from controlplane.kernel.clock import SystemClock
from controlplane.kernel.errors import Unavailable
from controlplane.web.health import beat
from registry.selectors import has_pending_manifests, mirror_health
from registry.services.manifests import register_pending_manifests, verify_version
from registry.services.mirror import mirror_models
from registry.wiring import allowed_files, model_store, models_dir

log = logging.getLogger(__name__)


@shared_task(name="registry.mirror")
def mirror(models: Sequence[str] = ()) -> None:
    """Reads the store; a webhook names the `models` to look at closely."""
    mirror_models(store=model_store(), now=timezone.now(), only=models)
    health = mirror_health(now=timezone.now())
    beat(name="mlflow", now=timezone.now(), ok=not health.error, message=health.error)
    if has_pending_manifests(now=timezone.now()):
        # A task of its own: a large download must not hold up the next look at the store.
        take_manifests.apply_async(expires=60)


@shared_task(name="registry.take_manifests")
def take_manifests() -> None:
    """Takes the manifests of versions that were just registered."""
    try:
        register_pending_manifests(
            store=model_store(), models_dir=models_dir(), clock=SystemClock(), allowed_files=allowed_files()
        )
    except Unavailable as error:
        log.warning("registry.manifests_waiting %s", error)


@shared_task(name="registry.verify")
def verify(version_id: int) -> None:
    """Compares a version's files, here and in the store, with its manifest."""
    try:
        verify_version(
            version_id=version_id,
            store=model_store(),
            models_dir=models_dir(),
            now=timezone.now(),
            allowed_files=allowed_files(),
        )
    except Unavailable as error:
        log.warning("registry.not_verified version=%s %s", version_id, error)
