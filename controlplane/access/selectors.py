"""Reads of people and tokens."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db.models import Case, Count, Q, QuerySet, When

from controlplane.access.models import ApiToken, User
from controlplane.kernel.errors import NotFound


def tokens_of(user: User) -> list[ApiToken]:
    """The person's tokens, newest first, revoked ones too."""
    return list(ApiToken.objects.filter(user=user))


def first_tokens_of(user: User, *, limit: int, now: datetime) -> tuple[list[ApiToken], int]:
    """At most `limit` of the person's tokens, those that work first and newest first; and how many there are in all."""
    found = ApiToken.objects.filter(user=user)
    works = Case(When(_works(now), then=0), default=1)
    return list(found.order_by(works, "-created_at", "-id")[:limit]), found.count()


def people(*, after: str, limit: int, now: datetime) -> Sequence[User]:
    """People by name, those behind `after`; each with `live_tokens`, how many of their tokens work: 1 query."""
    return list(_with_tokens(now).filter(username__gt=after)[:limit])


def find_person(username: str, *, now: datetime) -> User:
    """One person, with `live_tokens`. Raises NotFound."""
    found = _with_tokens(now).filter(username=username).first()
    if found is None:
        raise NotFound(f"There is nobody called {username!r}.", code="person-not-found")
    return found


def _with_tokens(now: datetime) -> QuerySet[User]:
    live = Count("api_tokens", filter=_works(now, "api_tokens__"))
    return User.objects.annotate(live_tokens=live).order_by("username")


def _works(now: datetime, of: str = "") -> Q:
    """Tokens that are neither revoked nor expired, as `ApiToken.is_live` says; `of` is the way to them."""
    lasts = Q(**{f"{of}expires_at": None}) | Q(**{f"{of}expires_at__gt": now})
    return Q(**{f"{of}revoked_at": None}) & lasts
