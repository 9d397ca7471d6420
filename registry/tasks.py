"""Tasks: thin, each calls one service. A pass that is lost costs nothing: the next one reads the same
store.
"""

from __future__ import annotations

from collections.abc import Sequence

from celery import shared_task

from controlplane.kernel.clock import MESSAGE_SECONDS
from controlplane.passes.services import one_run
from controlplane.timekeeping.database_clock import CLOCK
from controlplane.web.health import beat
from registry.selectors import (
    CHANGED,
    MANIFESTS,
    MODELS,
    has_changed_versions,
    has_pending_manifests,
    mirror_health,
)
from registry.services.manifests import register_pending_manifests, verify_changed
from registry.services.mirror import ask_again, mirror_models
from registry.services.refusals import accept_allowed
from registry.wiring import allowed_files, model_store, models_dir

# So long a run keeps others of its kind away. A longer one (large files) goes on beside them: what it works on is its.
ONE_RUN_SECONDS = 60.0


@shared_task(name="registry.mirror")
def mirror(models: Sequence[str] = ()) -> None:
    """Reads the store; a webhook names the `models` to look at closely."""
    ask_again(models=models)
    with one_run(name=MODELS, clock=CLOCK, seconds=ONE_RUN_SECONDS) as mine:
        if not mine:
            return  # a slow one is under way; the next one reads what was asked for again
        mirror_models(store=model_store(), clock=CLOCK)
    accept_allowed(allowed_files=allowed_files(), clock=CLOCK)
    health = mirror_health(now=CLOCK.now())
    beat(name="mlflow", now=CLOCK.now(), ok=not health.error, message=health.error)
    if has_pending_manifests(now=CLOCK.now()):
        # A task of its own: a large download must not hold up the next look at the store.
        take_manifests.apply_async(expires=MESSAGE_SECONDS)
    if has_changed_versions(now=CLOCK.now()):
        verify_changed_versions.apply_async(expires=MESSAGE_SECONDS)


@shared_task(name="registry.take_manifests")
def take_manifests() -> None:
    """Takes the manifests of versions that were just registered."""
    with one_run(name=MANIFESTS, clock=CLOCK, seconds=ONE_RUN_SECONDS) as mine:
        if mine:
            register_pending_manifests(
                store=model_store(), models_dir=models_dir(), clock=CLOCK, allowed_files=allowed_files()
            )


@shared_task(name="registry.verify_changed")
def verify_changed_versions() -> None:
    """Compares the files of versions that were found changed, here and in the store, with their manifests."""
    with one_run(name=CHANGED, clock=CLOCK, seconds=ONE_RUN_SECONDS) as mine:
        if mine:
            verify_changed(
                store=model_store(), models_dir=models_dir(), clock=CLOCK, allowed_files=allowed_files()
            )
