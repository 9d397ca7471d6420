"""From a bandit's state to its verdict: the numbers of each arm, and the sentences that a release manager reads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist

from rollouts.domain.bandits.forecast import answers_until_one_is_left
from rollouts.domain.bandits.ipw import IpwSums
from rollouts.domain.bandits.learner import Beliefs, TopTwoThompson
from rollouts.domain.bandits.reweight import Pace, Reweight
from rollouts.domain.bandits.sentences import Names, arm_sentence, detail_of, reweight_sentence, sentence_of
from rollouts.domain.bandits.spec import BanditSpec
from rollouts.domain.bandits.verdict import ArmState, ArmVerdict, BanditVerdict, ReweightVerdict
from rollouts.domain.gates.verdict import FamilyVerdict, Verdict

NOT_PROVEN = ("neither is proven better than the other", "none is proven better than the others")
INTERVAL = 0.05  # the intervals shown hold 95 %
QUANTILE = NormalDist().inv_cdf(1 - INTERVAL / 2)


@dataclass(frozen=True, slots=True)
class Standing:
    """The parts of a bandit's state that a verdict is made of."""

    spec: BanditSpec
    learner: TopTwoThompson
    ipw: IpwSums
    beliefs: Beliefs
    wanted: tuple[int, ...]
    burn_in: bool
    reweight: Reweight
    pace: Pace


def verdict_of(
    standing: Standing, families: Mapping[str, FamilyVerdict], labels: Mapping[str, str]
) -> BanditVerdict:
    """The verdict. `families`: of each candidate's gates; `labels`: how to write the arms."""
    names = Names(labels)
    learner = standing.learner
    arms = _arm_verdicts(standing, families, names)
    survivors = learner.survivors
    baseline = learner.arms[0]
    sole = survivors[0] if len(survivors) == 1 else "" if survivors else baseline
    passes = sole == baseline or (sole != "" and families[sole].all_required_pass)
    tied = survivors if len(survivors) > 1 else ()
    answers = None if standing.burn_in else answers_until_one_is_left(learner, standing.wanted)
    pace = standing.pace.per_second
    return BanditVerdict(
        sentence=sentence_of(standing.spec, arms, families, names, sole=sole, burn_in=standing.burn_in),
        detail=detail_of(
            arms,
            standing.spec,
            names,
            tied=tied,
            pace=pace,
            seconds=answers / pace if answers is not None and pace > 0 else None,
        ),
        alpha=learner.alpha,
        beta=learner.beta,
        threshold=learner.threshold,
        burn_in=standing.burn_in,
        arms=arms,
        gates=dict(families),
        wanted=dict(zip(learner.arms, standing.wanted, strict=True)),
        reweight=ReweightVerdict(
            due=standing.reweight.due,
            skipped=standing.reweight.skipped,
            change_bp=standing.reweight.change_bp,
            sentence=reweight_sentence(standing.reweight, learner, standing.wanted, standing.spec, names),
        ),
        survivors=survivors,
        winner=sole if passes else "",
        sole_survivor=sole,
        tied=tied,
        tie_sentence=f"{names.tie(tied)}: {NOT_PROVEN[len(tied) > 2]}; the choice is yours." if tied else "",
    )


def _arm_verdicts(
    standing: Standing, families: Mapping[str, FamilyVerdict], names: Names
) -> tuple[ArmVerdict, ...]:
    learner = standing.learner
    means, spreads = (values.tolist() for values in learner.sums.levels())
    reports = standing.ipw.estimates(INTERVAL)
    known = all(learner.scored(name) for name in learner.survivors)
    arms = []
    for position, name in enumerate(learner.arms):
        gone = learner.departure(name)
        state: ArmState = "racing"
        if gone is not None:
            state = "eliminated" if gone.cause == "evidence" else "dropped"
        required = [gate for gate in families[name].verdicts if gate.required] if name in families else []
        mean, sd = means[position], spreads[position]
        seen = not math.isnan(mean)
        evidence = learner.evidence_against(name)
        draft = ArmVerdict(
            name=name,
            state=state,
            cause="" if gone is None else gone.cause,
            sentence="",
            at_index=None if gone is None or gone.at_index < 0 else gone.at_index,
            scored=learner.scored(name),
            mean=mean if seen else None,
            low=max(0.0, mean - QUANTILE * sd) if seen else None,
            high=min(1.0, mean + QUANTILE * sd) if seen else None,
            sd=sd if seen else None,
            ipw=reports[position],
            p_best=standing.beliefs.p_best[position] if gone is None else 0.0,
            expected_loss=standing.beliefs.expected_loss[position]
            if known and learner.scored(name)
            else None,
            evidence=evidence,
            beaten_by=learner.strongest_rival(name) if evidence > 1 else "",
            wanted_bp=standing.wanted[position],
            gates_passed=sum(gate.verdict is Verdict.PASS for gate in required),
            gates_required=len(required),
        )
        alone = learner.survivors == (name,)
        words = arm_sentence(draft, gone, standing.spec, names, burn_in=standing.burn_in, alone=alone)
        arms.append(replace(draft, sentence=words))
    return tuple(arms)
