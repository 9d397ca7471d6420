"""`manage.py prepare_cluster NAME`: what has to be there before a cluster is used."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.kernel.errors import HeadgateError
from rollouts import wiring


class Command(BaseCommand):
    help = "Writes what a cluster needs before it is used, and says what to run. Run it again after a change."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self.stdout.write(wiring.prepare_cluster(options["name"]))
        except HeadgateError as error:
            raise CommandError(str(error)) from error
