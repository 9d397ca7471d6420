"""`manage.py define_gate_policy NAME FILE.yaml`: the next version of a gate policy, checked field by field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from controlplane.kernel.errors import HeadgateError, InvalidInput
from rollouts.services.endpoints import define_gate_policy


class Command(BaseCommand):
    help = "Stores a gate policy as the next version of NAME; the same content again changes nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("file", type=Path, help="YAML as docs/statistics.md shows it")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            body = yaml.safe_load(options["file"].read_text())
            if not isinstance(body, dict):
                raise CommandError(f"{options['file']} is no mapping of names to values.")
            made = define_gate_policy(name=options["name"], body=body, now=timezone.now())
        except (OSError, yaml.YAMLError) as error:
            raise CommandError(f"{options['file']} cannot be read: {error}") from error
        except InvalidInput as error:
            raise CommandError(f"{error.field}: {error}") from error
        except HeadgateError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(str(made))
        for gate in made.policy.gates:
            self.stdout.write(f"  {gate.describe()}")
