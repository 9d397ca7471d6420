"""How a split becomes another one without a request that finds no backend. Pure.

Some gateways give each reference of a route a backend of its own and drop it with its weight: Envoy Gateway leaves a
reference of weight 0 out, and its Envoys are told of the clusters before they are told of the routes. In between, a
request that draws a reference which just lost its weight finds no cluster, and so does one that draws a reference which
just got its first weight, until its endpoints came. Both are answered with HTTP 500. Usually that lasts milliseconds; a
proxy whose controller was away gets everything at once, and it lasts longer.

So nobody's weight goes from much to nothing, or from nothing to much, in one step. In between it is faint: one request
in a million. A reference is faint

- coming, until a proxy was seen to serve the route that names it; then it may have its share
- leaving, until a proxy was seen to serve the route in which it has nothing to do any more; then it may go

A later route may come at any time, also while nobody knows what the proxies have. It may then raise who is leaving and
drop who is coming, for the routes before it allow that; the rest waits. Over any two routes that proxies may have at
the same time, the one for its clusters and the other for its routes, no request is lost but a faint one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from rollouts.adapters.routers.envoy_routes import bp_of_weights
from rollouts.ports import FULL_SHARE_BP

FINE = 100  # what a basis point weighs beside a faint reference, which weighs 1; the Gateway API allows 1,000,000


@dataclass(frozen=True, slots=True)
class SplitStep:
    """A split as it is written.

    shares    variant -> basis points above 0, of sum 10,000
    coming    faint: they had no weight in some route that a proxy may still have
    leaving   faint: they have a share in such a route
    """

    shares: Mapping[str, int]
    coming: frozenset[str] = frozenset()
    leaving: frozenset[str] = frozenset()

    @property
    def faint(self) -> frozenset[str]:
        return self.coming | self.leaving

    def weights(self) -> dict[str, int]:
        """The weight of each variant that has one: basis points where nobody is faint."""
        if not self.faint:
            return dict(self.shares)
        return {name: share * FINE for name, share in self.shares.items()} | dict.fromkeys(self.faint, 1)

    def among(self, variants: Collection[str]) -> SplitStep:
        """The same without those that cannot be referred to any more: whoever draws them now is lost anyway."""
        shares = {name: share for name, share in self.shares.items() if name in variants}
        kept = frozenset(variants)
        return SplitStep(bp_of_weights(shares), self.coming & kept, self.leaving & kept)


def read_step(weights: Mapping[str, int], coming: Collection[str]) -> SplitStep:
    """What the weights of a route say, whoever wrote them. `coming`: of those that are faint, as it was noted."""
    there = {name: weight for name, weight in weights.items() if weight}
    faint = {name for name, weight in there.items() if weight == 1} if _is_fine(there) else set()
    shares = bp_of_weights({name: weight for name, weight in there.items() if name not in faint})
    return SplitStep(shares, frozenset(faint & set(coming)), frozenset(faint - set(coming)))


def next_step(now: SplitStep, target: Mapping[str, int], *, served: bool) -> SplitStep:
    """The next split to write on the way from `now` to the shares `target`; `target` itself where that is safe.

    served   a proxy was seen to serve `now`. Otherwise it may still serve any route since the last that one served
    """
    if not now.shares:
        return SplitStep(target)
    reached = {*now.shares, *now.leaving, *(now.coming if served else ())}
    stuck = frozenset() if served else now.leaving
    missing = frozenset(target) - reached
    if missing:
        faint = (reached - set(now.shares)) & set(target) | stuck
        return SplitStep(now.shares, missing, frozenset(faint))
    return SplitStep(target, leaving=(frozenset(now.shares) | stuck) - set(target))


def steps_left(now: SplitStep, target: Mapping[str, int]) -> int:
    """How many more splits there are to write before `target` is reached, if nothing comes between."""
    left = 0
    while now != SplitStep(target):
        now, left = next_step(now, target, served=True), left + 1
    return left


def _is_fine(weights: Mapping[str, int]) -> bool:
    """Whether these are weights beside faint ones: all shares, and 1 for each that is faint."""
    return sum(weights.values()) > FULL_SHARE_BP * FINE
