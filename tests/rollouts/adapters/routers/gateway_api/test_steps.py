"""From one split to another without a request that finds no backend."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from rollouts.adapters.routers.gateway_api.steps import SplitStep, next_step, read_step, steps_left

A, B, C, D = "a", "b", "c", "d"
MOST_WEIGHT = 1_000_000  # of the Gateway API


def test_next__other_shares_of_the_same_variants__are_written_at_once() -> None:
    assert next_step(SplitStep({A: 9_000, B: 1_000}), {A: 5_000, B: 5_000}, served=False) == SplitStep(
        {A: 5_000, B: 5_000}
    )


def test_next__one_more_variant__is_faint_first() -> None:
    step = next_step(SplitStep({A: 10_000}), {A: 9_000, B: 1_000}, served=True)
    assert step.weights() == {A: 1_000_000, B: 1}
    assert next_step(step, {A: 9_000, B: 1_000}, served=False) == step
    assert next_step(step, {A: 9_000, B: 1_000}, served=True) == SplitStep({A: 9_000, B: 1_000})


def test_next__one_variant_less__has_its_share_taken_at_once_and_goes_when_that_is_served() -> None:
    step = next_step(SplitStep({A: 9_500, B: 500}), {A: 10_000}, served=False)
    assert step.weights() == {A: 1_000_000, B: 1}
    assert next_step(step, {A: 10_000}, served=False) == step
    assert next_step(step, {A: 10_000}, served=True) == SplitStep({A: 10_000})


def test_next__all_to_another_variant__takes_three() -> None:
    now, target = SplitStep({A: 10_000}), {B: 10_000}
    assert steps_left(now, target) == 3
    seen = []
    while now != SplitStep(target):
        now = next_step(now, target, served=True)
        seen.append(now.weights())
    assert seen == [{A: 1_000_000, B: 1}, {B: 1_000_000, A: 1}, {B: 10_000}]


def test_next__back_before_it_was_served__needs_nobody_to_be_asked() -> None:
    """A rollback right after a promotion, or while the gateway's controller is away."""
    promoted = next_step(SplitStep({A: 5_000, B: 5_000}), {B: 10_000}, served=False)
    assert next_step(promoted, {A: 10_000}, served=False).shares == {A: 10_000}
    started = next_step(SplitStep({A: 10_000}), {A: 9_000, B: 1_000}, served=True)
    assert next_step(started, {A: 10_000}, served=False) == SplitStep({A: 10_000})


def test_next__nothing_was_there__is_the_target() -> None:
    assert next_step(SplitStep({}), {A: 7_000, B: 3_000}, served=False) == SplitStep({A: 7_000, B: 3_000})


def test_among__whose_backend_has_gone__leaves_the_others_their_parts() -> None:
    step = SplitStep({A: 5_000, B: 3_000, C: 2_000}, coming=frozenset({D})).among({B, C})
    assert step == SplitStep({B: 6_000, C: 4_000})


@pytest.mark.parametrize(
    ("weights", "step"),
    [
        ({A: 1, B: 1}, SplitStep({A: 5_000, B: 5_000})),  # by hand
        ({A: 1_000, B: 1}, SplitStep({A: 9_990, B: 10})),
        ({A: 9_999, B: 1}, SplitStep({A: 9_999, B: 1})),
        ({A: 10_000, B: 0}, SplitStep({A: 10_000})),
        ({A: 1_000_000, B: 1}, SplitStep({A: 10_000}, leaving=frozenset({B}))),
        ({A: 1_000_000, C: 1}, SplitStep({A: 10_000}, coming=frozenset({C}))),
        ({}, SplitStep({})),
    ],
)
def test_read__weights_of_a_route__are_shares_and_who_is_faint(
    weights: dict[str, int], step: SplitStep
) -> None:
    assert read_step(weights, {C}) == step


TARGETS = some.lists(
    some.dictionaries(some.sampled_from([A, B, C, D]), some.integers(1, 10_000), min_size=1).map(
        lambda weights: read_step(weights, ()).shares
    ),
    min_size=1,
    max_size=6,
)


@given(TARGETS, some.data())
def test_next__any_routes_and_a_proxy_that_comes_behind__no_share_is_without_its_backend(
    targets: list[dict[str, int]], data: some.DataObject
) -> None:
    """A proxy may have the clusters of any route since the last that it was seen to serve, and the routes of any."""
    now, wanted = SplitStep(targets[0]), targets[0]
    since_served = [now]
    for target in targets:
        wanted = target
        for _ in range(data.draw(some.integers(0, 4))):
            if data.draw(some.booleans()):
                since_served = [now]
            now = next_step(now, wanted, served=len(since_served) == 1)
            since_served.append(now)
            for clusters in since_served:
                for routes in since_served:
                    assert set(routes.shares) <= set(clusters.weights())
            weights = now.weights()
            assert max(weights.values()) <= MOST_WEIGHT
            assert read_step(weights, now.coming) == now
    assert steps_left(now, wanted) <= 3
