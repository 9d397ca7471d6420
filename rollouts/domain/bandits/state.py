"""A bandit rollout: the learner, one set of gates per candidate arm, and the clock of the reweights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import numpy as np

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.stored import as_stored
from rollouts.domain.bandits.arithmetic import WHOLE
from rollouts.domain.bandits.explain import Standing, verdict_of
from rollouts.domain.bandits.ipw import IpwSums
from rollouts.domain.bandits.learner import Beliefs, Cause, TopTwoThompson
from rollouts.domain.bandits.reweight import Pace, Reweight
from rollouts.domain.bandits.spec import BanditSpec
from rollouts.domain.bandits.verdict import BanditVerdict
from rollouts.domain.gates import checks
from rollouts.domain.gates.family import GatesState
from rollouts.domain.gates.fastkill import WorkloadFacts, why_kill
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.record.intervals import BASELINE, Interval


@dataclass(frozen=True, slots=True)
class BanditState:
    """Everything a bandit remembers of its rollout: bounded in size whatever its length.

    gates           per candidate arm, each at policy alpha / (K-1), so that a harmless arm is dropped by any guardrail
                    with probability at most alpha; an arm that left keeps its last, unless it has all traffic
    last_index      of the newest interval; an older or repeated one is refused
    burn_in         shares are equal until every arm in the race has `spec.burn_in` scored answers
    beliefs         P(best) and expected loss after the newest answers
    wanted          basis points per arm, in arm order, of sum 10,000
    since_reweight  seconds of exposure since the last reweight was decided
    new_answers     with rewards, since then
    reweight        what the newest interval decided about the weights
    pace            how many answers a second come in lately (for forecasts)
    """

    spec: BanditSpec
    learner: TopTwoThompson
    gates: Mapping[str, GatesState]
    ipw: IpwSums
    beliefs: Beliefs
    wanted: tuple[int, ...]
    last_index: int = -1
    burn_in: bool = True
    since_reweight: float = 0.0
    new_answers: int = 0
    reweight: Reweight = field(default_factory=Reweight)
    pace: Pace = field(default_factory=Pace)

    @classmethod
    def initial(cls, spec: BanditSpec, policy: GatePolicy, arms: Sequence[str]) -> Self:
        """No evidence yet.

        arms        names, "baseline" first. Raises InvalidInput (`bandit.arms`, `bandit.floor_bp`) when they cannot be.
        """
        names = tuple(arms)
        if not names or names[0] != BASELINE:
            raise InvalidInput("The first arm of a bandit is the baseline.", field="bandit.arms")
        spec.check_arms(len(names))
        learner = TopTwoThompson.initial(
            names,
            alpha=spec.alpha,
            beta=spec.beta,
            floor=spec.floor_bp / WHOLE,
            baseline_floor=spec.baseline_bp / WHOLE,
            discount=spec.discount,
        )
        stricter = replace(policy, alpha=policy.alpha / (len(names) - 1))
        even = tuple(1 / len(names) for _ in names)
        return cls(
            spec=spec,
            learner=learner,
            gates={name: GatesState.initial(stricter) for name in names[1:]},
            ipw=IpwSums.empty(len(names)),
            beliefs=Beliefs(even, tuple(0.0 for _ in names)),
            wanted=learner.shares_bp(None),
            burn_in=spec.burn_in > 0,
        )

    @property
    def arms(self) -> tuple[str, ...]:
        return self.learner.arms

    @property
    def policy(self) -> GatePolicy:
        """Of each candidate arm: the rollout's policy with alpha / (K-1)."""
        return self.gates[self.arms[1]].policy

    def update(self, interval: Interval, rng: np.random.Generator) -> Self:
        """The state after one interval: what was learned, who left, and what the shares should be.

        interval    answers in it were all assigned under `interval.answer_shares`, or `interval.shares` where those
                    are not given; its `dropped` arms left because of their engine (then `missing` says why, by arm
                    name) or a person
        rng         for P(best) only; the same seed gives the same state

        Raises InvalidInput naming the field for an interval that is not newer than the last, an unknown arm or
        impossible counts.
        """
        self._check(interval)
        index = interval.index
        learner = self.learner
        for name in interval.dropped:
            why = interval.missing.get(name, "")
            cause: Cause = "workload" if why else "person"
            learner = learner.drop(name, cause, why, index)
        gates = self._update_gates(interval, learner)
        for name, state in gates.items():
            out = _why_out(state) if name in learner.survivors else None
            if out is not None:
                learner = learner.drop(name, *out, index)
        # What answered was not the arm, so that it proves nothing of it; the others go on among themselves.
        rated = [name for name in self.arms if name in interval.arms and name not in interval.altered_answers]
        rewards = {name: _reward(name, interval) for name in rated}
        learner = learner.update(rewards, index=index)
        n, s = (np.array([rewards.get(name, (0, 0))[part] for name in self.arms], float) for part in (0, 1))
        assigned = interval.answer_shares or interval.shares
        shares = np.array([assigned.get(name, 0) / WHOLE for name in self.arms])
        answers = int(n.sum())
        seconds = float(interval.seconds)
        new = replace(
            self,
            learner=learner,
            gates=gates,
            ipw=self.ipw.add(n, s, shares if assigned else None) if answers else self.ipw,
            last_index=index,
            since_reweight=self.since_reweight + (seconds if interval.arms else 0.0),
            new_answers=self.new_answers + answers,
            pace=self.pace.add(seconds, answers),
        )
        left = learner.survivors != self.learner.survivors
        if answers or left:
            new = replace(new, beliefs=learner.beliefs(rng))
        return new._reweigh(left=left)

    def _check(self, interval: Interval) -> None:
        index = checks.count(interval.index, field="index")
        if index <= self.last_index:
            raise InvalidInput(
                f"index is {index}, but interval {self.last_index} was already counted.",
                field="index",
                fix="Give every interval once, in order.",
            )
        checks.between(interval.seconds, 0, 86_400, field="seconds", low_open=True)
        for where, names in (
            ("arms", interval.arms),
            ("shares", interval.shares),
            ("answer_shares", interval.answer_shares),
            ("dropped", interval.dropped),
            ("altered", interval.altered),
            ("altered_answers", interval.altered_answers),
        ):
            for name in names:
                if name not in self.arms:
                    raise InvalidInput(
                        f"{where}.{name} is no arm here.",
                        field=f"{where}.{name}",
                        fix=f"Arms: {', '.join(self.arms)}.",
                    )
        if BASELINE in interval.dropped:
            raise InvalidInput(
                "The baseline cannot be dropped: the gates compare with it.", field="dropped.baseline"
            )
        for where, split in (("shares", interval.shares), ("answer_shares", interval.answer_shares)):
            for name, share in split.items():
                checks.between(share, 0, WHOLE, field=f"{where}.{name}")

    def _update_gates(self, interval: Interval, learner: TopTwoThompson) -> dict[str, GatesState]:
        """The gates after this interval; of arms in the race, the others keep their last state. An arm that a person
        promoted is watched by its gates even when ratings that come late say that it is not the best.
        """
        return {
            name: state.update(replace(interval, share_bp=_share_bp(interval, name)), name)
            if name in learner.survivors or interval.shares.get(name) == WHOLE
            else state
            for name, state in self.gates.items()
        }

    def _reweigh(self, *, left: bool) -> Self:
        """Decides the shares. An arm that leaves loses its share at once; otherwise time, burn-in and data decide."""
        learner, spec = self.learner, self.spec
        burning = self.burn_in and any(learner.scored(name) < spec.burn_in for name in learner.survivors)
        ended = self.burn_in and not burning
        if not left and len(learner.survivors) < 2:
            return replace(self, reweight=Reweight("settled"))
        if not (left or ended or (not burning and self.since_reweight >= spec.reweight_seconds)):
            waits = 0.0 if burning else spec.reweight_seconds - self.since_reweight
            return replace(self, reweight=Reweight("burn-in" if burning else "waiting", waits=waits))
        wanted = self._shares(learner, burning=burning)
        change = max(abs(new - old) for new, old in zip(wanted, self.wanted, strict=True))
        done = replace(self, burn_in=burning, since_reweight=0.0, new_answers=0)
        if not left and not self.new_answers:
            return replace(done, reweight=Reweight("no-data", before=self.wanted))
        if not left and change < spec.min_change_bp:
            return replace(done, reweight=Reweight("small", change_bp=change, before=self.wanted))
        return replace(
            done, wanted=wanted, reweight=Reweight("moved", change_bp=change, before=self.wanted, left=left)
        )

    def _shares(self, learner: TopTwoThompson, *, burning: bool) -> tuple[int, ...]:
        return learner.shares_bp(None if burning else self.beliefs.p_best)

    def assess(
        self,
        *,
        workload: Mapping[str, WorkloadFacts] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> BanditVerdict:
        """The verdict now.

        workload    restarts and kills of the engines per candidate arm, for the fast kill: an arm that it strikes is
                    shown as dropped and its share goes to the others at once; name it in the next interval's
                    `dropped` to make it last
        labels      how to write the arms in sentences; an arm without one is written by its name
        """
        families = {
            name: state.assess(workload=(workload or {}).get(name), baseline_bp=self.wanted[0])
            for name, state in self.gates.items()
        }
        shown = self
        for name, family in families.items():
            if name in shown.learner.survivors and family.fast_kill is not None:
                learner = shown.learner.drop(name, "workload", family.fast_kill, self.last_index)
                shown = replace(shown, learner=learner)
        if shown is not self:
            wanted = self._shares(shown.learner, burning=self.burn_in)
            change = max(abs(new - old) for new, old in zip(wanted, self.wanted, strict=True))
            reweight = Reweight("moved", change_bp=change, before=self.wanted, left=True)
            shown = replace(shown, wanted=wanted, reweight=reweight)
        standing = Standing(
            spec=shown.spec,
            learner=shown.learner,
            ipw=shown.ipw,
            beliefs=shown.beliefs,
            wanted=shown.wanted,
            burn_in=shown.burn_in,
            reweight=shown.reweight,
            pace=shown.pace,
        )
        return verdict_of(standing, families, labels or {})

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "bandit",
            "spec": self.spec.to_json(),
            "learner": self.learner.to_json(),
            "gates": {name: state.to_json() for name, state in self.gates.items()},
            "ipw": self.ipw.to_json(),
            "beliefs": {name: list(values) for name, values in asdict(self.beliefs).items()},
            "wanted": list(self.wanted),
            "reweight": self.reweight.to_json(),
            "pace": asdict(self.pace),
            **{name: getattr(self, name) for name in PLAIN_FIELDS},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises InvalidInput naming the field when the data is not a bandit's state."""
        names = ("kind", *cls.__dataclass_fields__)
        values = dict(checks.mapping(data, field="", allowed=names, needed=names))
        checks.one_of(values["kind"], ("bandit",), field="kind")
        learner = TopTwoThompson.from_json(values["learner"])
        arms = len(learner.arms)
        if set(values["gates"]) != set(learner.arms[1:]):
            raise InvalidInput("gates does not hold one entry a candidate arm.", field="gates")
        wanted = tuple(checks.count(share, field="wanted") for share in values["wanted"])
        if len(wanted) != arms or sum(wanted) != WHOLE:
            raise InvalidInput("wanted must hold one share an arm, of sum 10,000.", field="wanted")
        believed = checks.mapping(
            values["beliefs"],
            field="beliefs",
            allowed=("p_best", "expected_loss"),
            needed=("p_best", "expected_loss"),
        )
        beliefs = {
            name: tuple(checks.finite(value, field=f"beliefs.{name}") for value in row)
            for name, row in believed.items()
        }
        if any(len(row) != arms for row in beliefs.values()):
            raise InvalidInput("beliefs must hold one number an arm.", field="beliefs")
        return cls(
            spec=as_stored(BanditSpec, values["spec"]),
            learner=learner,
            gates={name: GatesState.from_json(values["gates"][name]) for name in learner.arms[1:]},
            ipw=IpwSums.from_json(values["ipw"], arms),
            beliefs=Beliefs(**beliefs),
            wanted=wanted,
            last_index=int(checks.finite(values["last_index"], field="last_index")),
            burn_in=checks.flag(values["burn_in"], field="burn_in"),
            since_reweight=checks.between(values["since_reweight"], 0, math.inf, field="since_reweight"),
            new_answers=checks.count(values["new_answers"], field="new_answers"),
            reweight=Reweight.from_json(values["reweight"]),
            pace=Pace.from_json(values["pace"]),
        )


PLAIN_FIELDS = ("last_index", "burn_in", "since_reweight", "new_answers")


def _why_out(gates: GatesState) -> tuple[Cause, str] | None:
    """Why an arm's gates take it out of the race, in a word and in a sentence; None: they do not."""
    kill = why_kill(gates.policy.fast_kill, gates.window, gates.share_bp, None, gates.shares.directions)
    if kill is not None:
        return "fast-kill", kill
    return ("guardrail", gates.assess().reason) if gates.crossed is not None else None


def _reward(name: str, interval: Interval) -> tuple[int, int]:
    """(answers, rewards) of an arm: an answer earns 1, or 0 when it was rated down."""
    arm = interval.arms[name]
    down, answers = checks.events_of(
        arm.thumbs_down,
        arm.answers,
        events_field=f"arms.{name}.thumbs_down",
        trials_field=f"arms.{name}.answers",
    )
    return answers, answers - down


def _share_bp(interval: Interval, name: str) -> int:
    """The arm's share: as observed, or else its part of the requests that ended."""
    if interval.shares:
        return interval.shares.get(name, 0)
    counts = {other: arm.requests for other, arm in interval.arms.items()}
    total = sum(counts.values())
    return round(WHOLE * counts.get(name, 0) / total) if total else 0
