"""Ratings that do not count for any variant: how many there were, and what is said of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Uncounted:
    """Ratings of an endpoint's last day that could not be attributed to a variant.

    unverifiable  the router's log has no such answer of the variant that they name
    forced        of an answer whose variant was chosen by header, which is no ordinary traffic
    refused       not taken, because too many of their sender were still waiting
    """

    unverifiable: int = 0
    forced: int = 0
    refused: int = 0

    @property
    def total(self) -> int:
        return self.unverifiable + self.forced + self.refused

    @property
    def sentence(self) -> str:
        """All of it in one sentence; empty when every rating counted."""
        if not self.total:
            return ""
        ratings = "rating" if self.total == 1 else "ratings"
        return (
            f"In the last 24 h {self.total:,} {ratings} did not count: "
            f"{self.unverifiable:,} named answers that the router's log does not have, "
            f"{self.forced:,} were of answers whose variant was chosen by header, and "
            f"{self.refused:,} were refused because too many ratings of the same sender were waiting."
        )
