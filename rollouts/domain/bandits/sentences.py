"""The sentences of a bandit: how it stands, with numbers, and what comes next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from controlplane.kernel.words import (
    cases_of,
    duration_of_seconds,
    odds,
    percent_of_bp,
    percent_of_share,
    points_of_bp,
    rough,
    whole,
)
from rollouts.domain.bandits.learner import Departure, TopTwoThompson
from rollouts.domain.bandits.reweight import Reweight
from rollouts.domain.bandits.spec import BanditSpec
from rollouts.domain.bandits.verdict import ArmVerdict
from rollouts.domain.gates.verdict import FamilyVerdict
from rollouts.domain.record.intervals import BASELINE

NUMBERS = (
    "No",
    "One",
    "Two",
    "Three",
    "Four",
    "Five",
    "Six",
    "Seven",
    "Eight",
    "Nine",
    "Ten",
    "Eleven",
    "Twelve",
)


@dataclass(frozen=True, slots=True)
class Names:
    """How arms are written."""

    labels: Mapping[str, str]

    def of(self, arm: str) -> str:
        return self.labels.get(arm, arm)

    def tie(self, arms: Sequence[str]) -> str:
        """`v2 or v3`; `v2, v3 or v4`."""
        written = [self.of(arm) for arm in arms]
        return " or ".join([*([", ".join(written[:-1])] if written[:-1] else []), *written[-1:]])


def reward_words(arm: ArmVerdict) -> str:
    """`0.741 (0.730 to 0.752), so by estimate 74.1% of its answers are not rated down`: posterior mean and interval."""
    if arm.mean is None or arm.low is None or arm.high is None:
        return "not known yet"
    return (
        f"{arm.mean:.3f} ({arm.low:.3f} to {arm.high:.3f}), so by estimate {percent_of_share(arm.mean)} of its answers "
        "are not rated down"
    )


def arm_sentence(
    arm: ArmVerdict, gone: Departure | None, spec: BanditSpec, names: Names, *, burn_in: bool, alone: bool
) -> str:
    """Why the arm is where it is. `alone`: no other arm is in the race."""
    limit = odds(1 / spec.alpha)
    if gone is None:
        if alone:
            return f"The only arm left: its reward is {reward_words(arm)}."
        if burn_in:
            return (
                f"In the race: {whole(arm.scored)} of its answers are scored; the shares stay equal until every arm "
                f"has {whole(spec.burn_in)}."
            )
        best = percent_of_share(arm.p_best)
        return (
            f"In the race: its reward is {reward_words(arm)}. The evidence that another arm is better is "
            f"{odds(arm.evidence)} to 1; at {limit} to 1 it leaves. That it is the best has a probability of {best}, "
            "which only steers its share of the traffic."
        )
    if gone.cause == "evidence":
        stays = (
            f" It keeps {percent_of_bp(spec.baseline_bp)} of the traffic, so that the gates can compare with it."
            if arm.name == BASELINE
            else ""
        )
        return (
            f"Eliminated: the evidence that another arm is better was {odds(gone.evidence)} to 1, mostly because of "
            f"{names.of(gone.beaten_by)}; at {limit} to 1 an arm leaves. Its reward is {reward_words(arm)}.{stays}"
        )
    if gone.cause == "guardrail":
        return f"Dropped by its guardrail: {gone.sentence}"
    if gone.cause == "fast-kill":
        return f"Dropped by the fast kill: {gone.sentence}"
    if gone.cause == "workload":
        return f"Dropped because of its engine: {gone.sentence}"
    return "Taken out of the race by a person." + (f" {gone.sentence}" if gone.sentence else "")


def sentence_of(
    spec: BanditSpec,
    arms: Sequence[ArmVerdict],
    families: Mapping[str, FamilyVerdict],
    names: Names,
    *,
    sole: str,
    burn_in: bool,
) -> str:
    """Where the bandit stands, the first thing that is read."""
    racing = [arm for arm in arms if arm.state == "racing"]
    if sole == BASELINE:
        if racing:
            return f"{names.of(BASELINE)} stays: every other arm has left the race, and it keeps all traffic."
        return (
            f"No candidate is left: there was enough evidence that one is better than {names.of(BASELINE)}, but those "
            f"that beat it have left the race since. So {names.of(BASELINE)} keeps all traffic."
        )
    if sole:
        arm, family = racing[0], families[sole]
        alone = f"{names.of(sole)} is the only arm left, with a reward of {reward_words(arm)}"
        if family.all_required_pass:
            return (
                f"{names.of(sole)} wins: it is the only arm left and all its required gates pass. Its reward is "
                f"{reward_words(arm)}. In at most {cases_of(spec.alpha)} rollouts ({percent_of_share(spec.alpha)}) the "
                "best arm is dropped by mistake."
            )
        return f"{alone}; it wins once its required gates pass. {family.reason}"
    remain = (
        f"All {NUMBERS[len(arms)].lower()} arms remain"
        if len(racing) == len(arms)
        else f"{NUMBERS[len(racing)]} of {NUMBERS[len(arms)].lower()} arms remain"
    )
    if burn_in:
        least = min(racing, key=lambda arm: arm.scored)
        return (
            f"{remain}, with equal shares until each has {whole(spec.burn_in)} scored answers; "
            f"{names.of(least.name)} has the fewest, {whole(least.scored)}."
        )
    return f"{remain}, no winner yet. {_strongest(racing, spec, names)} {RULE}"


RULE = "The bandit stops when one arm is left and all its required gates pass."


def _strongest(racing: Sequence[ArmVerdict], spec: BanditSpec, names: Names) -> str:
    """The evidence that is nearest to a decision."""
    weakest = max(racing, key=lambda arm: arm.evidence)
    limit = odds(1 / spec.alpha)
    if not weakest.beaten_by:
        return (
            "Nothing speaks against any of them yet: the strongest evidence that another arm is better is "
            f"{odds(weakest.evidence)} to 1, and an arm leaves at {limit} to 1."
        )
    return (
        f"The strongest evidence is against {names.of(weakest.name)}: {odds(weakest.evidence)} to 1 that another arm "
        f"is better, mostly because of {names.of(weakest.beaten_by)}; at {limit} to 1 it leaves."
    )


def detail_of(
    arms: Sequence[ArmVerdict],
    spec: BanditSpec,
    names: Names,
    *,
    tied: Sequence[str],
    pace: float,
    seconds: float | None,
) -> str:
    """How long it may take, what a tie gives, and what P(best) is for. Empty once one arm is left."""
    if not tied:
        return ""
    said = []
    if seconds is not None:
        said.append(
            f"With {rough(pace * 60)} scored answers a minute and the difference seen so far, one arm is left after "
            f"about {duration_of_seconds(seconds)}."
        )
    said.append(
        f"If several are left at the deadline, the result is “{names.tie(tied)}” and a person chooses. Of arms that "
        f"are equal one is named the winner in at most {cases_of(spec.tie_alpha)} rollouts."
    )
    likeliest = max(arms, key=lambda arm: arm.p_best)
    if likeliest.scored:
        said.append(
            f"{names.of(likeliest.name)} is thought to be the best with a probability of "
            f"{percent_of_share(likeliest.p_best)}, which only steers the shares. Do not promote on this number: of "
            "equal arms it often favours one all the same."
        )
    return " ".join(said)


def reweight_sentence(
    reweight: Reweight, learner: TopTwoThompson, wanted: Sequence[int], spec: BanditSpec, names: Names
) -> str:
    """What the newest interval did to the weights."""
    if reweight.kind == "burn-in":
        return f"Equal shares until every arm has {whole(spec.burn_in)} scored answers."
    if reweight.kind == "settled":
        return "The weights stay: one arm is left."
    if reweight.kind == "waiting":
        return f"The weights are recalculated after {duration_of_seconds(reweight.waits)} more of measured traffic."
    if reweight.kind == "no-data":
        return "Weights kept: no answer was scored since they were last recalculated."
    if reweight.kind == "small":
        return (
            f"Weights kept: the largest change would be {points_of_bp(reweight.change_bp)}, "
            f"below {points_of_bp(spec.min_change_bp)}."
        )
    moves = [
        f"{names.of(name)} {percent_of_bp(old)} → {percent_of_bp(new)}"
        for name, old, new in zip(learner.arms, reweight.before, wanted, strict=True)
        if old != new
    ]
    kept = [
        f"{names.of(name)} stays at {percent_of_bp(new)}"
        for name, old, new in zip(learner.arms, reweight.before, wanted, strict=True)
        if old == new and new
    ]
    why = "Weights changed because an arm left" if reweight.left else "Weights recalculated"
    return f"{why}: {', '.join([*moves, *kept])}."
