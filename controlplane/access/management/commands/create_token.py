"""`manage.py create_token NAME TOKEN --scopes read,rollouts:write`: an API token, its secret shown once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.access.models import User
from controlplane.access.services import create_token
from controlplane.kernel.errors import HeadgateError
from controlplane.timekeeping.database_clock import CLOCK


class Command(BaseCommand):
    help = "Makes an API token for a person and prints its secret, which cannot be shown again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username", help="the person it acts for; their role applies")
        parser.add_argument("name", help="what it is for, such as ci-support")
        parser.add_argument(
            "--scopes", default="read", help="read,rollouts:write,registry:write,feedback:write"
        )
        parser.add_argument("--days", type=int, help="how long it is valid (default: until it is revoked)")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(
                f"There is nobody called {options['username']!r}. Make them with create_person."
            )
        now = CLOCK.now()
        ends = now + timedelta(days=options["days"]) if options["days"] else None
        scopes = [scope.strip() for scope in options["scopes"].split(",") if scope.strip()]
        try:
            _, secret = create_token(user=user, name=options["name"], scopes=scopes, expires_at=ends, now=now)
        except HeadgateError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(secret)
