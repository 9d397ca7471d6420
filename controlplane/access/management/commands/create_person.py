"""`manage.py create_person NAME --role engineer`: somebody who may sign in; the password comes on standard input."""

from __future__ import annotations

import getpass
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.access.roles import Role
from controlplane.access.services import ensure_user
from controlplane.kernel.errors import HeadgateError


class Command(BaseCommand):
    help = "Makes a person, or gives an existing one this role and password (asked for, or piped in)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--role", choices=[role.value for role in Role], default=Role.VIEWER.value)

    def handle(self, *args: Any, **options: Any) -> None:
        password = getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
        try:
            user = ensure_user(username=options["username"], role=options["role"], password=password)
        except HeadgateError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{user.username} is {user.role_words}.")
