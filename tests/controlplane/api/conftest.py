"""People with tokens, and a client that calls as one of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from django.core.cache import cache
from rest_framework.test import APIClient

from controlplane.access.models import User
from controlplane.access.roles import Role
from controlplane.access.services import Scope, create_token

ClientOf = Callable[..., APIClient]


@pytest.fixture
def person(db: None) -> Callable[[Role], User]:
    """Makes a person of a role; the name is the role's."""

    def make(role: Role = Role.ENGINEER) -> User:
        return User.objects.create_user(username=role.value, password="secret-of-a-test", role=role.value)

    return make


@pytest.fixture
def client_of(person: Callable[[Role], User]) -> ClientOf:
    """A client that sends a token of a new person with that role and those scopes (all by default)."""
    cache.clear()

    def make(role: Role = Role.ENGINEER, scopes: tuple[Scope, ...] = tuple(Scope)) -> APIClient:
        _, secret = create_token(
            user=person(role), name="ci", scopes=scopes, expires_at=None, now=datetime.now(UTC)
        )
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
        return client

    return make
