"""Every strategy that can be decided can be shown."""

from __future__ import annotations

from rollouts.domain.strategies import STRATEGIES
from rollouts.ui.strategies import SHOWN


def test_strategies__each__has_its_pages() -> None:
    assert set(SHOWN) == set(STRATEGIES)
