"""`manage.py revoke_token NAME TOKEN`: ends an API token at once."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.access.account import end_token
from controlplane.access.actors import HEADGATE
from controlplane.access.models import User
from controlplane.access.selectors import tokens_of
from controlplane.timekeeping.database_clock import CLOCK


class Command(BaseCommand):
    help = "Ends an API token at once; it cannot be used again."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username", help="the person it acts for")
        parser.add_argument("name", help="what the token is called")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(f"There is nobody called {options['username']!r}.")
        tokens = {token.name: token for token in tokens_of(user)}
        token = tokens.get(options["name"])
        if token is None:
            raise CommandError(
                f"{user.username} has no token {options['name']!r}, only: {', '.join(tokens) or 'none'}."
            )
        end_token(token_id=token.pk, actor=HEADGATE, now=CLOCK.now())
        self.stdout.write(f"{token.name} of {user.username} is revoked.")
