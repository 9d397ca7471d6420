"""Requests that end late are counted late: what that means when the shares just moved.

A client that gives up does so seconds after its request arrived, and is counted then. While the shares stay as they
are, both arms lag alike. In the seconds after a candidate lost share, those who leave are of the time when it had more
requests: too many for the few that arrive now. After it gained share they are too few. So for `LATE_SECONDS` after a
move such counts may speak only in the direction that the move cannot fake.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from rollouts.domain.gates.latency import LOAD_TOLERANCE, Directions

LATE_SECONDS = 60.0  # longer than most clients wait
LONGEST_TRAIL = 600  # rows kept at most, however short the intervals are


@dataclass(frozen=True, slots=True)
class ShareTrail:
    """The shares of the last `LATE_SECONDS`: rows of (seconds, candidate, baseline) in basis points."""

    rows: tuple[tuple[float, int, int], ...] = ()

    def add(self, seconds: float, candidate_bp: int, baseline_bp: int) -> Self:
        """The trail after one more interval; equal neighbours are one row."""
        rows = list(self.rows)
        if rows and rows[-1][1:] == (candidate_bp, baseline_bp):
            seconds += rows.pop()[0]
        rows.append((min(seconds, LATE_SECONDS), candidate_bp, baseline_bp))
        covered = sum(row[0] for row in rows)
        while len(rows) > 1 and (covered - rows[0][0] >= LATE_SECONDS or len(rows) > LONGEST_TRAIL):
            covered -= rows[0][0]
            del rows[0]
        return type(self)(tuple(rows))

    @property
    def directions(self) -> Directions:
        """Which evidence late counts may give now."""
        if not self.rows:
            return Directions(True, True)
        _, candidate, baseline = self.rows[-1]
        may_fail = may_pass = True
        for _, then_candidate, then_baseline in self.rows[:-1]:
            before, now = then_candidate * baseline, candidate * then_baseline
            may_fail = may_fail and before <= LOAD_TOLERANCE * now
            may_pass = may_pass and now <= LOAD_TOLERANCE * before
        if may_fail and may_pass:
            return Directions(True, True)
        moved = "grew" if may_fail else "shrank" if may_pass else "moved"
        return Directions(
            may_fail,
            may_pass,
            f"the candidate's share {moved} less than {LATE_SECONDS:.0f} s ago, and a client who gives up is counted "
            "only when it leaves",
        )

    def to_json(self) -> list[list[float]]:
        return [list(row) for row in self.rows]

    @classmethod
    def from_json(cls, data: Sequence[Sequence[Any]]) -> Self:
        return cls(tuple((float(row[0]), int(row[1]), int(row[2])) for row in data))


def baseline_share(share_bp: int, shares: Mapping[str, int], baseline: str) -> int:
    """The baseline's share in basis points: as observed, or what the candidate leaves of a canary."""
    return int(shares[baseline]) if baseline in shares else 10_000 - share_bp
