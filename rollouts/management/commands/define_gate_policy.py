"""`manage.py define_gate_policy NAME FILE.yaml`: the next version of a gate policy, checked field by field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.access.actors import HEADGATE
from controlplane.kernel.errors import HeadgateError, InvalidInput
from controlplane.timekeeping.database_clock import CLOCK
from rollouts.services.policies.text import read_policy_text
from rollouts.services.policies.versions import define_from_document


class Command(BaseCommand):
    help = "Stores a gate policy as the next version of NAME; the same content again changes nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("file", type=Path, help="YAML as docs/statistics.md shows it")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            document = read_policy_text(options["file"].read_text(encoding="utf-8"))
            made = define_from_document(
                name=options["name"], document=document, actor=HEADGATE, now=CLOCK.now()
            )
        except (OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{options['file']} cannot be read: {error}") from error
        except InvalidInput as error:
            line = error.extra.get("line")
            where = f"{options['file']}:{line}: " if line else ""
            raise CommandError(f"{where}{error.field}: {error}") from error
        except HeadgateError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(str(made))
        for gate in made.policy.gates:
            self.stdout.write(f"  {gate.describe()}")
