"""Builders of bandits and their intervals for the tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rollouts.domain.bandits import BanditSpec, BanditState
from rollouts.domain.record.intervals import ArmCounts, Interval
from tests.rollouts.domain.gates.helpers import ERRORS, policy

THREE = ("baseline", "candidate", "candidate-2")


def bandit(
    arms: tuple[str, ...] = THREE, gates: tuple[Mapping[str, Any], ...] = (ERRORS,), **spec: Any
) -> BanditState:
    """A new bandit with these gates; `spec` are fields of BanditSpec."""
    return BanditState.initial(BanditSpec(**spec), policy(*gates), arms)


def counts(answers: int, down: int = 0, *, errors: int = 0, requests: int | None = None) -> ArmCounts:
    asked = answers if requests is None else requests
    return ArmCounts(asked, errors, asked, 1.0, answers=answers, thumbs_down=down)


def row(index: int, arms: Mapping[str, ArmCounts], **other: Any) -> Interval:
    return Interval(index, index * 10.0, 10.0, 0, arms, **other)


def rng_of(index: int) -> np.random.Generator:
    return np.random.default_rng([1, index, 2])


def feed(state: BanditState, times: int, arms: Mapping[str, ArmCounts], **other: Any) -> BanditState:
    """The state after the same interval `times` times, at the shares it wants."""
    for _ in range(times):
        index = state.last_index + 1
        shares = other.get("shares", dict(zip(state.arms, state.wanted, strict=True)))
        state = state.update(row(index, arms, **{**other, "shares": shares}), rng_of(index))
    return state


def simulate(
    state: BanditState,
    intervals: int,
    rewards: Mapping[str, float],
    *,
    requests: int = 120,
    seed: int = 1,
    errors: Mapping[str, float] | None = None,
    until_winner: bool = True,
) -> BanditState:
    """The state after traffic drawn at the shares it wants; stops at the winner."""
    world = np.random.default_rng(seed)
    for _ in range(intervals):
        arms = {}
        for name, share in zip(state.arms, state.wanted, strict=True):
            n = int(world.binomial(requests, share / 10_000))
            if n:
                failed = int(world.binomial(n, (errors or {}).get(name, 0.01)))
                arms[name] = counts(n, int(world.binomial(n, 1 - rewards[name])), errors=failed)
        state = feed(state, 1, arms)
        if until_winner and state.assess().winner:
            break
    return state
