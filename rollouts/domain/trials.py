"""What a gateway was seen to do when it was tried, beside what it is declared to do. Pure.

Implementations of the same API differ where nobody looks: one sends requests to a backend of weight 0, one mirrors all
where a part was asked for, and each of them says that the route was accepted. So what is declared in a table is tried
once on every gateway, by requests to a route that no user has (docs/gateway-api.md). What was refuted counts from then
on; what was not tried yet is as it was declared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from rollouts.domain.capabilities import Capability

TRIAL_SECONDS = 300.0  # that one trial may take, all in all
AGAIN_SECONDS = 3600.0  # until a trial that came to no end is begun anew


class GatewayTrait(StrEnum):
    """What not every implementation does as the Gateway API has it.

    KEEPS_ZERO       a reference with weight 0 gets no request
    HEADER_WINS      a rule with a matching header goes before the split. Without it no variant can be forced
    MIRRORS_A_PART   a mirror with a fraction gets that part of the requests, and not all of them
    COUNTS_FORCED_APART
                     its counters tell forced requests from drawn ones that go to the same Service. It is not tried:
                     what its counters are called is in its template
    """

    KEEPS_ZERO = "keeps-zero"
    HEADER_WINS = "header-wins"
    MIRRORS_A_PART = "mirrors-a-part"
    COUNTS_FORCED_APART = "counts-forced-apart"

    @property
    def words(self) -> str:
        """What a gateway without it cannot do, after `cannot`."""
        return WORDS[self]


WORDS = {
    GatewayTrait.KEEPS_ZERO: "keep requests away from a variant with a share of 0",
    GatewayTrait.HEADER_WINS: Capability.FORCED_VARIANT.words,
    GatewayTrait.MIRRORS_A_PART: Capability.MIRROR.words,
    GatewayTrait.COUNTS_FORCED_APART: "count forced requests apart from drawn ones",
}
TRIED = (GatewayTrait.KEEPS_ZERO, GatewayTrait.HEADER_WINS, GatewayTrait.MIRRORS_A_PART)
# What a router cannot do where this is refuted.
MAKES_POSSIBLE: Mapping[GatewayTrait, Capability] = {
    GatewayTrait.HEADER_WINS: Capability.FORCED_VARIANT,
    GatewayTrait.MIRRORS_A_PART: Capability.MIRROR,
}


@dataclass(frozen=True, slots=True)
class TrialFinding:
    """What a trial found of one trait. `words` say it in numbers."""

    trait: GatewayTrait
    holds: bool
    words: str


@dataclass(frozen=True, slots=True)
class Trials:
    """What is known of a cluster's gateway by trials. Times are seconds since the epoch.

    gateway   which gateway, in which state, the findings are of; empty: there are none
    at        when they were made
    tried     which gateway was tried last
    tried_at  when that was; None: never
    problem   why the last trial came to no end, as sentences; empty: it did. Earlier findings stay
    """

    gateway: str = ""
    at: float | None = None
    findings: tuple[TrialFinding, ...] = ()
    tried: str = ""
    tried_at: float | None = None
    problem: str = ""

    def finding(self, trait: GatewayTrait) -> TrialFinding | None:
        """What was found of it; None: it was not tried."""
        return next((one for one in self.findings if one.trait is trait), None)

    def refuted(self, trait: GatewayTrait) -> bool:
        """Whether it was seen not to hold. What was not tried is not refuted."""
        found = self.finding(trait)
        return found is not None and not found.holds

    @property
    def missing(self) -> frozenset[Capability]:
        """What the router cannot do by what was refuted, whatever it declares."""
        return frozenset(one for trait, one in MAKES_POSSIBLE.items() if self.refuted(trait))

    def is_due(self, gateway: str, now: float) -> bool:
        """Whether the gateway, as it is now, is to be tried: once, and anew some time after a trial that came to no
        end. A time that is ahead was written by a clock that was wrong."""
        if self.findings and self.gateway == gateway and not (self.problem and self.tried == gateway):
            return False
        if self.tried_at is None or self.tried != gateway:
            return True
        return not 0 <= now - self.tried_at < AGAIN_SECONDS

    def to_json(self) -> dict[str, Any]:
        return {
            "gateway": self.gateway,
            "at": self.at,
            "findings": [
                {"trait": one.trait.value, "holds": one.holds, "words": one.words} for one in self.findings
            ],
            "tried": self.tried,
            "tried_at": self.tried_at,
            "problem": self.problem,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """As `to_json` gave it, now or in an earlier version; of what is empty, that nothing is known. A trait that
        this version does not know is left out."""
        known = {trait.value: trait for trait in GatewayTrait}
        findings = tuple(
            TrialFinding(known[one["trait"]], bool(one["holds"]), str(one["words"]))
            for one in data.get("findings", ())
            if one["trait"] in known
        )
        return cls(
            str(data.get("gateway", "")),
            data.get("at"),
            findings,
            str(data.get("tried", "")),
            data.get("tried_at"),
            str(data.get("problem", "")),
        )


class KnownBy(StrEnum):
    """How it is known what a router can do.

    DECLARED  its adapter says so, and nobody tried it here
    PROVEN    it was tried here
    REFUTED   it was tried here, and it cannot, whatever it declares
    MISSING   its adapter says that it cannot
    """

    DECLARED = "declared"
    PROVEN = "proven"
    REFUTED = "refuted"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class CapabilityNow:
    """One thing that a router can or cannot do.

    name    of the trait, else of the capability
    words   what it is, after `can` or `cannot`
    detail  what was found, in numbers; empty where it was not tried
    at      when, in seconds since the epoch
    """

    name: str
    words: str
    known_by: KnownBy
    detail: str = ""
    at: float | None = None


def capabilities_now(
    declared: frozenset[Capability], traits: frozenset[GatewayTrait] | None, trials: Trials
) -> tuple[CapabilityNow, ...]:
    """What a router can do, each with how that is known: first what can be tried.

    declared  by the router
    traits    declared of its gateway; None: there is nothing to try
    """
    found = [] if traits is None else [_of_trait(trait, trait in traits, trials) for trait in TRIED]
    tried = () if traits is None else MAKES_POSSIBLE.values()
    for one in Capability:
        if one not in tried:
            known_by = KnownBy.DECLARED if one in declared else KnownBy.MISSING
            found.append(CapabilityNow(one.value, one.words, known_by))
    return tuple(found)


def _of_trait(trait: GatewayTrait, declared: bool, trials: Trials) -> CapabilityNow:
    seen = trials.finding(trait)
    if seen is None:
        return CapabilityNow(trait.value, trait.words, KnownBy.DECLARED if declared else KnownBy.MISSING)
    known_by = KnownBy.PROVEN if seen.holds else KnownBy.REFUTED
    return CapabilityNow(trait.value, trait.words, known_by, sentence(seen.words), trials.at)


def sentence(words: str) -> str:
    """What was found, as a sentence."""
    return f"{words[:1].upper()}{words[1:].rstrip('.')}."
