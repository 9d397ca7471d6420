"""A client that calls as a person of a role, and a registry with something in it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from django.core.cache import cache
from rest_framework.test import APIClient

from controlplane.access.services import Scope, create_token, ensure_user
from controlplane.kernel.clock import ManualClock
from registry.adapters.model_stores.memory import MemoryModelStore
from registry.services.mirror import mirror_models
from tests.factories.weights import safetensors

ClientOf = Callable[..., APIClient]


@pytest.fixture
def client_of(db: None) -> ClientOf:
    """A client with a token of a new person with that role and those scopes (all by default)."""
    cache.clear()

    def make(role: str = "engineer", scopes: tuple[Scope, ...] = tuple(Scope)) -> APIClient:
        person = ensure_user(username=f"a-{role}", role=role, password="x")
        _, secret = create_token(
            user=person, name="ci", scopes=scopes, expires_at=None, now=datetime.now(UTC)
        )
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
        return client

    return make


@pytest.fixture
def filled(memory_store: MemoryModelStore, now: datetime, db: None) -> MemoryModelStore:
    """Model llama with three versions, v1 in production, and model empty."""
    memory_store.add_model("empty")
    memory_store.add_model("llama", description="routes tickets")
    for _ in range(3):
        memory_store.add_version("llama", {"model.safetensors": safetensors()}, metrics={"accuracy": 0.8})
    memory_store.set_alias("llama", "production", 1)
    mirror_models(store=memory_store, clock=ManualClock(now))
    return memory_store
