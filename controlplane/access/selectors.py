"""Reads of people and tokens."""

from __future__ import annotations

from controlplane.access.models import ApiToken, User


def tokens_of(user: User) -> list[ApiToken]:
    """The person's tokens, newest first, revoked ones too."""
    return list(ApiToken.objects.filter(user=user))
