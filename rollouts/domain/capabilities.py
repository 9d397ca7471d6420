"""What routers can do beyond splitting traffic: a router declares it, a strategy or a promise needs it."""

from __future__ import annotations

from enum import StrEnum


class Capability(StrEnum):
    """Something that not every router can do. An adapter declares what its configuration does today, and not what the
    program that it configures could do.

    FALLBACK        a request that drew a dead variant is answered by another one
    FORCED_VARIANT  a request with the header is answered by the variant that it names, whatever the split
    MIRROR          a copy of a fraction of the requests goes to a second variant, whose answers nobody sees
    STICKY          requests of the same caller go to the same variant, by a hash, as long as the split stays
    """

    FALLBACK = "fallback"
    FORCED_VARIANT = "forced-variant"
    MIRROR = "mirror"
    STICKY = "sticky"

    @property
    def words(self) -> str:
        """What a router without it cannot do, after `cannot`."""
        return WORDS[self]


WORDS = {
    Capability.FALLBACK: "send a request on when the variant that it drew is dead",
    Capability.FORCED_VARIANT: "send a request to one variant on purpose",
    Capability.MIRROR: "send a copy of a part of the requests to another variant",
    Capability.STICKY: "keep a caller at the variant that it drew",
}
