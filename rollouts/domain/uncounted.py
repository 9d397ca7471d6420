"""Ratings that count for nobody: how many there were, and what to say of them."""

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
            f"{self.unverifiable:,} of answers that the router's log does not have, "
            f"{self.forced:,} of a variant that was chosen by header, "
            f"{self.refused:,} refused because too many of one sender were waiting."
        )
