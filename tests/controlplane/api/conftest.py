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
from tests import factories

ClientOf = Callable[..., APIClient]


@pytest.fixture
def person(db: None) -> Callable[..., User]:
    """Makes a person of a role; the name is the role's."""
    return factories.person


@pytest.fixture
def client_of(person: Callable[..., User]) -> ClientOf:
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
