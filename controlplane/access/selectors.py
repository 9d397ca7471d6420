"""Reads of people and tokens."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django.db.models import Count, Q, QuerySet

from controlplane.access.models import ApiToken, User
from controlplane.kernel.errors import NotFound


def tokens_of(user: User) -> list[ApiToken]:
    """The person's tokens, newest first, revoked ones too."""
    return list(ApiToken.objects.filter(user=user))


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
    live = Q(api_tokens__revoked_at=None) & (
        Q(api_tokens__expires_at=None) | Q(api_tokens__expires_at__gt=now)
    )
    return User.objects.annotate(live_tokens=Count("api_tokens", filter=live)).order_by("username")
