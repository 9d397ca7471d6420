"""`manage.py end_access NAME`: signs a person out everywhere and ends their tokens, at once."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from controlplane.access.account import end_access
from controlplane.access.actors import HEADGATE
from controlplane.kernel.errors import HeadgateError
from controlplane.timekeeping.database_clock import CLOCK


class Command(BaseCommand):
    help = "Ends all sessions and all API tokens of a person at once. They may sign in again with their password."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("--keep-sessions", action="store_true", help="end the tokens only")
        parser.add_argument("--keep-tokens", action="store_true", help="end the sessions only")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            ended = end_access(
                username=options["username"],
                sessions=not options["keep_sessions"],
                tokens=not options["keep_tokens"],
                actor=HEADGATE,
                now=CLOCK.now(),
            )
        except HeadgateError as error:
            raise CommandError(str(error)) from error
        done = ["signed out everywhere"] if ended.sessions else []
        done += (
            [f"{ended.tokens} token{'' if ended.tokens == 1 else 's'} ended"]
            if not options["keep_tokens"]
            else []
        )
        self.stdout.write(f"{ended.person.username}: {', '.join(done)}.")
