"""Passwords are hashed slowly on purpose. This is the one place that does it, a few at a time.

Without a bound, anybody who can reach the sign-in page could keep every processor busy with hashing. What has to wait
longer than a moment is told to come back, and nothing was checked.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from django.contrib.auth import authenticate
from django.contrib.auth.hashers import make_password

from controlplane.access.models import User
from controlplane.kernel.errors import InvalidInput, Unavailable

MOST_AT_ONCE = 2  # in a process
WAIT_SECONDS = 1.0
COME_BACK_SECONDS = 5
LONGEST_PASSWORD = 1_000

_gate = threading.BoundedSemaphore(MOST_AT_ONCE)


class TooBusy(Unavailable):
    """Too many passwords are being checked at this moment; `wait_seconds` is when to try again."""

    code = "sign-in-busy"

    def __init__(self) -> None:
        super().__init__("Too many people sign in at this moment.", fix="Try again in a few seconds.")
        self.wait_seconds = COME_BACK_SECONDS


def person_with(*, username: str, password: str) -> User | None:
    """The person with this name and password, None when they do not match.

    An unknown name, a person who is switched off and a wrong password take the same one hash. Raises TooBusy.
    """
    with _at_the_gate():
        user = authenticate(username=username, password=password)
    return user if isinstance(user, User) else None


def hashed(password: str) -> str:
    """What is stored of a password. Raises InvalidInput (field `password`) for one that is too long; TooBusy."""
    check_readable(password)
    with _at_the_gate():
        return make_password(password)


def check_readable(password: str) -> None:
    """Raises InvalidInput for what is not worth a hash: too long, or no text."""
    if len(password) > LONGEST_PASSWORD:
        raise InvalidInput(f"A password has at most {LONGEST_PASSWORD:,} characters.", field="password")
    try:
        password.encode()
    except UnicodeEncodeError:
        raise InvalidInput("The password is no text.", field="password") from None


@contextmanager
def _at_the_gate() -> Iterator[None]:
    if not _gate.acquire(timeout=WAIT_SECONDS):
        raise TooBusy
    try:
        yield
    finally:
        _gate.release()
