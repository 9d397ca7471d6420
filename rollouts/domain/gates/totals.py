"""Sums for what is shown: estimates of both arms over the whole rollout and over its last stretch."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.gates.reading import Counts

PER_SIZE = 3
LARGEST = 64


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums for the shown estimates, standardised: an interval weighs n_c n_b / (n_c + n_b) in both arms, so
    that a ramp under drift does not fake a difference. An absolute limit and pairs weigh every request or
    pair alike.
    """

    weight_candidate: float = 0.0
    sum_candidate: float = 0.0
    weight_baseline: float = 0.0
    sum_baseline: float = 0.0
    squares: float = 0.0  # of paired differences
    n_candidate: int = 0
    n_baseline: int = 0
    seconds: float = 0.0

    @property
    def candidate(self) -> float | None:
        return self.sum_candidate / self.weight_candidate if self.weight_candidate else None

    @property
    def baseline(self) -> float | None:
        return self.sum_baseline / self.weight_baseline if self.weight_baseline else None

    def plus(self, other: Totals) -> Self:
        """Both stretches together."""
        return type(self)(*map(operator.add, VALUES(self), VALUES(other)))

    def add_counts(self, counts: Counts, *, absolute: bool) -> Self:
        n_c, n_b = counts.n_candidate, counts.n_baseline
        together = n_c * n_b / (n_c + n_b) if n_c and n_b else 0.0
        w_c, w_b = (float(n_c), float(n_b)) if absolute else (together, together)
        return type(self)(
            weight_candidate=self.weight_candidate + w_c,
            sum_candidate=self.sum_candidate + (w_c * counts.events_candidate / n_c if n_c else 0.0),
            weight_baseline=self.weight_baseline + w_b,
            sum_baseline=self.sum_baseline + (w_b * counts.events_baseline / n_b if n_b else 0.0),
            squares=self.squares,
            n_candidate=self.n_candidate + n_c,
            n_baseline=self.n_baseline + n_b,
            seconds=self.seconds,
        )

    def add_pair(self, score_baseline: float, score_candidate: float) -> Self:
        return type(self)(
            weight_candidate=self.weight_candidate + 1,
            sum_candidate=self.sum_candidate + float(score_candidate),
            weight_baseline=self.weight_baseline + 1,
            sum_baseline=self.sum_baseline + float(score_baseline),
            squares=self.squares + float(score_candidate - score_baseline) ** 2,
            n_candidate=self.n_candidate + 1,
            n_baseline=self.n_baseline + 1,
            seconds=self.seconds,
        )

    def to_json(self) -> list[float]:
        return list(VALUES(self))

    @classmethod
    def from_json(cls, data: Sequence[float]) -> Self:
        if len(data) != len(FIELDS):
            raise InvalidInput(f"totals holds {len(data)} numbers, not {len(FIELDS)}.", field="totals")
        return cls(*data)  # type: ignore[arg-type]  # whole numbers come back as whole numbers


FIELDS = tuple(Totals.__dataclass_fields__)
VALUES: Callable[[Totals], tuple[float, ...]] = operator.attrgetter(*FIELDS)
TotalsValues = tuple[float, ...]  # the VALUES of a Totals


@dataclass(frozen=True, slots=True)
class Trail:
    """The newest intervals, each alone at first, merged in pairs as they age: (intervals, their sums), oldest
    first.

    Most stretches are only carried from one interval to the next, so they are plain sums; `endings` makes Totals.
    At most `PER_SIZE` stretches of 1, 2, 4 ... `LARGEST` intervals are kept, so it stays small however long
    the rollout, and still tells to the interval where something began a moment ago.
    """

    stretches: tuple[tuple[int, TotalsValues], ...] = ()

    def add(self, totals: Totals) -> Self:
        """The trail with one more interval at its end."""
        stretches = [*self.stretches, (1, VALUES(totals))]
        size, end = 1, len(stretches)  # those of a size stand together, the larger ones before them
        while True:
            first = end - PER_SIZE - 1
            if first < 0 or stretches[first][0] != size:
                break
            if size == LARGEST:
                while first and stretches[first - 1][0] == size:
                    first -= 1
                del stretches[first]
                break
            merged = tuple(map(operator.add, stretches[first][1], stretches[first + 1][1]))
            stretches[first : first + 2] = [(2 * size, merged)]
            size, end = 2 * size, first + 1
        return type(self)(tuple(stretches))

    def endings(self) -> Iterator[Totals]:
        """Totals of the newest stretch, the newest two, and so on back to the oldest that is kept."""
        ending = Totals()
        for _, sums in reversed(self.stretches):
            ending = Totals(*map(operator.add, sums, VALUES(ending)))
            yield ending

    def last(self, seconds: float) -> Totals:
        """Totals of the shortest ending that covers so many seconds, or of everything kept."""
        ending = Totals()
        for ending in self.endings():
            if ending.seconds >= seconds:
                break
        return ending

    def to_json(self) -> list[list[Any]]:
        return [[size, list(sums)] for size, sums in self.stretches]

    @classmethod
    def from_json(cls, data: Sequence[Sequence[Any]]) -> Self:
        for _, sums in data:
            if len(sums) != len(FIELDS):
                raise InvalidInput(f"trail holds {len(sums)} numbers, not {len(FIELDS)}.", field="trail")
        return cls(tuple([(int(size), tuple(sums)) for size, sums in data]))
