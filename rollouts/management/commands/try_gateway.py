"""`manage.py try_gateway NAME`: what the gateway of a cluster really does, tried now."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.kernel.errors import HeadgateError
from rollouts import wiring
from rollouts.domain.trials import sentence
from rollouts.services.errands.gateway_trials import try_now


class Command(BaseCommand):
    help = (
        "Tries on the gateway of a cluster what it is declared to do, with a small pod and a route of its own. It takes"
        " up to five minutes. Ends with status 1 when something was refuted, or the trial came to no end."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = try_now(world=wiring.worlds().of(options["name"]))
        except HeadgateError as error:
            raise CommandError(str(error)) from error
        if found.problem:
            raise CommandError(f"The trial came to no end. {found.problem}")
        for one in found.findings:
            verb = "can" if one.holds else "cannot"
            self.stdout.write(f"{options['name']} {verb} {one.trait.words}: {sentence(one.words)}")
        if not all(one.holds for one in found.findings):
            raise CommandError("Something that is declared of this gateway was refuted.")
