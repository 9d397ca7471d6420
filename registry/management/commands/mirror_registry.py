"""`manage.py mirror_registry`: one pass over the model store, now, with its manifests."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from controlplane.kernel.clock import SystemClock
from registry.services.manifests import register_pending_manifests
from registry.services.mirror import mirror_models
from registry.wiring import allowed_files, model_store, models_dir


class Command(BaseCommand):
    """Reads MLflow once and takes the manifests that are due. Exits with 1 when MLflow does not answer."""

    help = "Read the model store once: models, versions, aliases, and the manifests that are due."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--no-manifests", action="store_true", help="do not download any files")

    def handle(self, *args: Any, **options: Any) -> None:
        report = mirror_models(store=model_store(), clock=SystemClock())
        if report.error:
            raise CommandError(report.error)
        taken = 0
        if not options["no_manifests"]:
            done = register_pending_manifests(
                store=model_store(),
                models_dir=models_dir(),
                clock=SystemClock(),
                allowed_files=allowed_files(),
            )
            if done.source:
                raise CommandError(done.source)
            taken = done.done + done.failed
        self.stdout.write(
            f"{report.models} models, {report.new_versions} new versions, {report.gone_versions} gone, "
            f"{report.alias_moves} aliases moved, {taken} manifests looked at."
        )
