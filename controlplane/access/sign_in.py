"""Signing in with a name and a password, with a polite brake on guessing.

The brake is on the pair of name and address, so that nobody can lock another person out from elsewhere, and
on the address as a whole. It lives in the database, so that it holds over all web processes.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from django.contrib.auth import authenticate

from controlplane.access.models import FailedSignIn, User
from controlplane.kernel.errors import InvalidInput

WINDOW = timedelta(minutes=5)
TRIES_A_NAME = 5
TRIES_AN_ADDRESS = 50


class SignInRefused(InvalidInput):
    """Wrong name or password, or too many tries (`wait_seconds` > 0 then says how long to wait)."""

    code = "sign-in-refused"

    def __init__(self, message: str, *, wait_seconds: int = 0) -> None:
        super().__init__(message, field="password")
        self.wait_seconds = wait_seconds


def check_sign_in(*, username: str, password: str, address: str, now: datetime) -> User:
    """The person with this name and password. Raises SignInRefused; failures of WINDOW count."""
    name = username.strip().lower()[:150]
    wait = _seconds_to_wait(name, address, now)
    if wait:
        minutes = "a minute" if wait <= 60 else f"{math.ceil(wait / 60)} minutes"
        raise SignInRefused(f"Too many tries. Try again in {minutes}.", wait_seconds=wait)
    user = authenticate(username=username.strip(), password=password)
    if not isinstance(user, User):
        FailedSignIn.objects.filter(at__lte=now - WINDOW).delete()
        FailedSignIn.objects.create(name=name, address=address, at=now)
        raise SignInRefused("Name and password do not match.")
    FailedSignIn.objects.filter(name=name, address=address).delete()
    return user


def _seconds_to_wait(name: str, address: str, now: datetime) -> int:
    recent = FailedSignIn.objects.filter(address=address, at__gt=now - WINDOW).order_by("-at")
    rows = list(recent.values_list("name", "at")[:TRIES_AN_ADDRESS])
    of_name = [at for failed, at in rows if failed == name]
    blocking = []
    if len(of_name) >= TRIES_A_NAME:
        blocking.append(of_name[TRIES_A_NAME - 1])
    if len(rows) >= TRIES_AN_ADDRESS:
        blocking.append(rows[-1][1])
    return max((math.ceil((at + WINDOW - now).total_seconds()) for at in blocking), default=0)
