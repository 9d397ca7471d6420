"""The client and people of the API's own tests, and a loop that is not there to be woken."""

from __future__ import annotations

import pytest

from tests.controlplane.api.conftest import client_of, person  # noqa: F401  (fixtures)


@pytest.fixture(autouse=True)
def woken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Endpoints that a call asked the loop to look at."""
    seen: list[int] = []
    for module in ("rollouts.api.rollouts", "rollouts.api.endpoints"):
        monkeypatch.setattr(f"{module}.wake", seen.append)
    return seen
