"""A version that is registered, on the memory store."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from registry.adapters.model_stores.memory import MemoryModelStore
from registry.models import Version
from registry.services.manifests import register_manifest
from tests.registry.services.registering import add


@pytest.fixture
def store(memory_store: MemoryModelStore) -> MemoryModelStore:
    return memory_store


@pytest.fixture
def registered(store: MemoryModelStore, models_dir: Path, now: datetime) -> Version:
    """A version with its manifest and its files on this machine."""
    return register_manifest(version_id=add(store, now), store=store, models_dir=models_dir, now=now)
