"""Worlds for tests: of exactly these clusters."""

from __future__ import annotations

from rollouts.services.world import World, Worlds


def worlds_of(*worlds: World) -> Worlds:
    """The worlds of a database that knows these clusters; at least one."""
    by_name = {world.name: world for world in worlds}
    return Worlds(tuple(by_name), by_name.__getitem__, worlds[0].clock)
