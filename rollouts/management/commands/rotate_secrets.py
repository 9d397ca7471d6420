"""`manage.py rotate_secrets`: puts every stored secret under the newest encryption key."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.kernel.errors import HeadgateError
from controlplane.sealing.kept import KEYS_FILE, add_key
from controlplane.sealing.services import key_ring
from rollouts import wiring
from rollouts.services.commands.secrets import rotate_secrets


class Command(BaseCommand):
    help = (
        "Puts every stored secret under the newest encryption key. May be stopped and run again: once it says that"
        " nothing was left to do, the older keys may go. Exit status 1: some could not be opened; they are named."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--new-key",
            action="store_true",
            help=f"first make a new key in the run folder's {KEYS_FILE} (not where HEADGATE_ENCRYPTION_KEYS is set)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        environment = settings.HEADGATE
        if options["new_key"]:
            if environment.encryption_keys:
                raise CommandError(
                    "HEADGATE_ENCRYPTION_KEYS is set: put the new key in front there. `python -m controlplane.sealing`"
                    " prints one."
                )
            add_key(environment.run_dir)
        try:
            done = rotate_secrets(worlds=wiring.worlds())
        except HeadgateError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"{done.renewed} put under the newest of {len(key_ring())} keys, {done.already} were under it already,"
            f" {done.sealed} had been stored in the clear."
        )
        if done.problems:
            raise CommandError("\n".join(["Not done:", *done.problems]))
        if not done.renewed and not done.sealed and len(key_ring()) > 1:
            self.stdout.write("Nothing was left to do: the older keys may go.")
