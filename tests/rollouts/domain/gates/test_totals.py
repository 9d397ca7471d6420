"""What is kept of a rollout's intervals for what is shown."""

from __future__ import annotations

from rollouts.domain.gates.totals import LARGEST, PER_SIZE, VALUES, Totals, Trail


def test_trail__long_rollout__what_was_added_less_the_oldest() -> None:
    trail = Trail()
    for number in range(1_000):
        trail = trail.add(Totals(n_candidate=1 << (number % 50), seconds=5.0))
        *_, everything = trail.endings()
        kept = sum(size for size, _ in trail.stretches)
        assert everything.seconds == 5.0 * kept
        assert everything.n_candidate == sum(1 << (n % 50) for n in range(number + 1 - kept, number + 1))


def test_trail__long_rollout__few_stretches_of_each_size_the_oldest_the_largest() -> None:
    trail = Trail()
    for _ in range(1_000):
        trail = trail.add(Totals(seconds=5.0))
        sizes = [size for size, _ in trail.stretches]
        assert sizes == sorted(sizes, reverse=True)
        assert all(sizes.count(size) <= PER_SIZE for size in sizes)
    assert sizes[0] == LARGEST


def test_trail__newest_interval__stands_alone() -> None:
    last = Totals(n_candidate=3, n_baseline=9, seconds=5.0)

    trail = Trail().add(Totals(seconds=5.0)).add(last)

    assert trail.stretches[-1] == (1, VALUES(last))
