"""Where an engine of this machine listens, for tests that ask it directly."""

from __future__ import annotations

from rollouts.adapters.backends import address_of
from rollouts.ports import WorkloadStatus


def port_of(status: WorkloadStatus) -> int:
    assert status.backend is not None
    return address_of(status.backend)[1]


def url_of(status: WorkloadStatus) -> str:
    assert status.backend is not None
    return f"http://{status.backend.address}"
