"""What services learn of the clusters that there are."""

from __future__ import annotations

import pytest

from controlplane.kernel.clock import SystemClock
from controlplane.kernel.errors import Unavailable
from rollouts.services.world import World, Worlds


def test_of__cluster_that_the_database_does_not_know__says_which_there_are() -> None:
    nobody: dict[str, World] = {}
    worlds = Worlds(("berlin", "local"), nobody.__getitem__, SystemClock())
    with pytest.raises(Unavailable, match="no cluster 'paris'") as caught:
        worlds.of("paris")
    assert caught.value.fix == "Use one of: berlin, local."
