"""Tokens that loops told, in memory: what a cluster and its router share."""

from __future__ import annotations


class MemoryTokens:
    """A TokenBook."""

    def __init__(self) -> None:
        self.told: dict[str, int] = {}

    def tell(self, endpoint: str, token: int) -> int:
        newest = max(token, self.told.get(endpoint, 0))
        if newest:
            self.told[endpoint] = newest
        return newest
