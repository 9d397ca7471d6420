"""What routers can do beyond splitting traffic: a router declares it, a strategy or a promise needs it."""

from __future__ import annotations

from enum import StrEnum


class Capability(StrEnum):
    """Something that not every router can do.

    FALLBACK        a request that drew a dead variant is answered by another one
    FORCED_VARIANT  a request with the header is answered by the variant that it names, whatever the split
    """

    FALLBACK = "fallback"
    FORCED_VARIANT = "forced-variant"

    @property
    def words(self) -> str:
        """What a router without it cannot do, after `cannot`."""
        return WORDS[self]


WORDS = {
    Capability.FALLBACK: "send a request on when the variant that it drew is dead",
    Capability.FORCED_VARIANT: "send a request to one variant on purpose",
}
EVERY_CAPABILITY = frozenset(Capability)
