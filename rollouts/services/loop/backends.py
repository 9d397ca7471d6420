"""How variants are reached, as it is kept beside their names. Read by nobody but the router and what reads engines."""

from __future__ import annotations

from collections.abc import Iterable

from rollouts.models import Workload
from rollouts.ports import Backend


def backend_json(backend: Backend) -> dict[str, str]:
    """A variant's backend as it is kept beside its name."""
    return {"kind": backend.kind, "name": backend.name, "address": backend.address}


def backends_of(workloads: Iterable[Workload]) -> tuple[Backend, ...]:
    """How the variants that run are reached, by name."""
    found = (Backend(row.variant.name, **row.backend) for row in workloads if row.backend and row.wanted)
    return tuple(sorted(found, key=lambda backend: backend.variant))
