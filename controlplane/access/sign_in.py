"""Signing in with a name and a password, with a brake on guessing.

A try is written down before the password is looked at, and counted with all others that were written down by then:
forty tries at the same moment are forty rows, and the first five of them are checked. It lives in the database, so that
it holds over all web processes.

Three counts, each of tries that were not successful:

- of a name from one address (strict): guessing one person's password from one place;
- of an address as a whole: guessing many people's passwords from one place;
- of a name from everywhere but the addresses where this person has signed in before: guessing from many places. It
  ends in pauses that grow, never in a lock, and the person goes on signing in from where they usually do.

An address is a /64 where it is IPv6. Names that do not exist are counted, and cost, like those that do.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from django.db import transaction

from controlplane.access.hashing import TooBusy, check_readable, person_with
from controlplane.access.models import KnownAddress, SignInTry, User
from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.networks import address_group

WINDOW = timedelta(minutes=5)
TRIES_A_NAME = 5  # from one address, in WINDOW
TRIES_AN_ADDRESS = 50  # in WINDOW

NAME_WINDOW = timedelta(hours=1)
FREE_TRIES = 20  # of a name from unknown addresses, in NAME_WINDOW
TRIES_A_PAUSE = 5  # then each pause is kept so often, and doubled
FIRST_PAUSE = timedelta(seconds=5)
LONGEST_PAUSE = timedelta(minutes=5)

KNOWN_FOR = timedelta(days=90)
MOST_KNOWN = 20  # addresses of a person
LONGEST_NAME = 150
# A clock that was set back leaves tries in the future behind: they count for nothing.
CLOCK_SLACK = timedelta(minutes=1)


class SignInRefused(InvalidInput):
    """Wrong name or password, or too many tries (`wait_seconds` > 0 then says how long to wait)."""

    code = "sign-in-refused"

    def __init__(self, message: str, *, wait_seconds: int = 0) -> None:
        super().__init__(message, field="password")
        self.wait_seconds = wait_seconds


def check_sign_in(*, username: str, password: str, address: str, now: datetime) -> User:
    """The person with this name and password.

    Raises SignInRefused; InvalidInput for a password that is too long; TooBusy when too many are checked at once (it
    then counts as no try). Not inside a transaction: others could not see the try.
    """
    name = username.strip()
    check_readable(password)
    if not name.isprintable() or len(name) > LONGEST_NAME:
        raise SignInRefused("Name and password do not match.")  # nobody can have it
    place = address_group(address)
    mine = _new_try(name, place, now)
    _refuse_if_too_many(mine, now)  # a flood writes nothing
    with transaction.atomic(durable=True):
        mine.save()
    try:
        _refuse_if_too_many(mine, now)
    except SignInRefused:
        mine.delete()
        raise
    try:
        user = person_with(username=name, password=password)
    except TooBusy:
        mine.delete()
        raise
    if user is None:
        SignInTry.objects.exclude(at__gt=now - NAME_WINDOW, at__lte=now + CLOCK_SLACK).delete()
        raise SignInRefused("Name and password do not match.")
    SignInTry.objects.filter(name=mine.name, address=place).delete()
    _remember(user, place, now)
    return user


def _new_try(name: str, place: str, now: datetime) -> SignInTry:
    seen = KnownAddress.objects.filter(user__username=name, address=place, seen_at__gt=now - KNOWN_FOR)
    return SignInTry(name=name.lower()[:LONGEST_NAME], address=place, known=seen.exists(), at=now)


def _refuse_if_too_many(mine: SignInTry, now: datetime) -> None:
    wait = _seconds_to_wait(mine, now)
    if wait:
        minutes = "a minute" if wait <= 60 else f"{math.ceil(wait / 60)} minutes"
        raise SignInRefused(f"Too many tries. Try again in {minutes}.", wait_seconds=wait)


def _remember(user: User, place: str, now: datetime) -> None:
    KnownAddress.objects.update_or_create(user=user, address=place, defaults={"seen_at": now})
    kept = (
        KnownAddress.objects.filter(user=user).order_by("-seen_at").values_list("pk", flat=True)[:MOST_KNOWN]
    )
    KnownAddress.objects.filter(user=user).exclude(pk__in=list(kept)).delete()


def _seconds_to_wait(mine: SignInTry, now: datetime) -> int:
    """0 when this try may be checked. Once it is written down, it is among those that are counted."""
    written = 1 if mine.pk else 0
    tries = SignInTry.objects.filter(at__lte=now + CLOCK_SLACK)
    here = list(
        tries.filter(address=mine.address, at__gt=now - WINDOW)
        .order_by("-at", "-pk")
        .values_list("name", "at")[: TRIES_AN_ADDRESS + 1]
    )
    of_name = [at for name, at in here if name == mine.name]
    ends = []
    for times, most in ((of_name, TRIES_A_NAME), ([at for _, at in here], TRIES_AN_ADDRESS)):
        last_allowed = most - 1 + written
        if len(times) > last_allowed:
            ends.append(times[last_allowed] + WINDOW)
    if not mine.known:
        ends.append(_end_of_pause(mine, now))
    return max((math.ceil((end - now).total_seconds()) for end in ends if end > now), default=0)


def _end_of_pause(mine: SignInTry, now: datetime) -> datetime:
    """When a name may be tried again from an address that this person never signed in from."""
    others = SignInTry.objects.filter(
        name=mine.name, known=False, at__gt=now - NAME_WINDOW, at__lte=now + CLOCK_SLACK
    ).exclude(pk=mine.pk)
    number = others.count()
    last = others.order_by("-at").values_list("at", flat=True).first()
    if last is None or number < FREE_TRIES:
        return now
    doubled = min((number - FREE_TRIES) // TRIES_A_PAUSE, 16)
    pause: timedelta = min(FIRST_PAUSE * (1 << doubled), LONGEST_PAUSE)
    return last + pause
