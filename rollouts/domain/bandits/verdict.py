"""What comes out of a bandit: where it stands, arm by arm, in numbers and sentences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from rollouts.domain.bandits.ipw import Estimate
from rollouts.domain.gates.outage import Outage
from rollouts.domain.gates.verdict import FamilyVerdict

ArmState = Literal["racing", "eliminated", "dropped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmVerdict:
    """One arm, now.

    state, cause    "racing"; "eliminated" by evidence; "dropped" by its guardrail, the fast kill, its engine or a
                    person (cause says which; empty while racing)
    sentence        why, with numbers
    at_index        the interval it left in; None while racing or when it left between intervals
    scored          answers with a reward
    mean, low, high, sd     posterior of the reward with shared drift taken out (95% interval); None without data
    ipw             the reward for reports, valid after weights that followed the rewards; None without data
    p_best          chance to be the best in the race (steers the weights, decides nothing)
    expected_loss   reward that choosing it would cost on average; None until every arm in the race has answers
    evidence        that it is not the best; at the verdict's threshold it leaves
    beaten_by       the arm that this evidence is mostly from, empty when there is none
    wanted_bp       the share it should have
    gates_passed, gates_required    of its required gates (the baseline has none)
    """

    name: str
    state: ArmState
    cause: str
    sentence: str
    at_index: int | None
    scored: int
    mean: float | None
    low: float | None
    high: float | None
    sd: float | None
    ipw: Estimate | None
    p_best: float
    expected_loss: float | None
    evidence: float
    beaten_by: str
    wanted_bp: int
    gates_passed: int
    gates_required: int

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        values = dict(data)
        values["ipw"] = None if values["ipw"] is None else Estimate(**values["ipw"])
        return cls(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReweightVerdict:
    """The newest interval's reweight. `due`: one was decided in it; `skipped`: and the weights were kept.

    change_bp       the largest change of a share
    """

    due: bool
    skipped: bool
    change_bp: int
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BanditVerdict:
    """The whole bandit, now.

    sentence, detail    where it stands; how long it may take and what a tie gives
    threshold           the evidence at which an arm leaves, 1 / alpha
    burn_in             the shares still are equal
    arms                in order, the baseline first
    gates               per candidate arm
    wanted              basis points per arm, of sum 10,000
    survivors           arms in the race
    sole_survivor       the only arm left, or empty
    winner              the sole survivor once all its required gates pass (the baseline needs none), or empty
    tied                the survivors, when there are several
    tie_sentence        what is said if it ends like this: "A or B", never one of them
    """

    sentence: str
    detail: str
    alpha: float
    beta: float
    threshold: float
    burn_in: bool
    arms: tuple[ArmVerdict, ...]
    gates: Mapping[str, FamilyVerdict]
    wanted: Mapping[str, int]
    reweight: ReweightVerdict
    survivors: tuple[str, ...]
    winner: str
    sole_survivor: str
    tied: tuple[str, ...]
    tie_sentence: str

    @property
    def outage(self) -> Outage | None:
        """The outage of the baseline, as the candidates in the race see it."""
        racing = [self.gates[name] for name in self.survivors if name in self.gates]
        return next((family.outage for family in racing if family.outage is not None), None)

    def arm(self, name: str) -> ArmVerdict:
        """The verdict of the arm of that name; raises KeyError."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": "bandit",
            "sentence": self.sentence,
            "detail": self.detail,
            "alpha": self.alpha,
            "beta": self.beta,
            "threshold": self.threshold,
            "burn_in": self.burn_in,
            "arms": [asdict(arm) for arm in self.arms],
            "gates": {name: family.to_json() for name, family in self.gates.items()},
            "wanted": dict(self.wanted),
            "reweight": asdict(self.reweight),
            "survivors": list(self.survivors),
            "winner": self.winner,
            "sole_survivor": self.sole_survivor,
            "tied": list(self.tied),
            "tie_sentence": self.tie_sentence,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        values = {name: value for name, value in data.items() if name != "kind"}
        values["arms"] = tuple(ArmVerdict.from_json(arm) for arm in values["arms"])
        values["gates"] = {name: FamilyVerdict.from_json(gates) for name, gates in values["gates"].items()}
        values["wanted"] = dict(values["wanted"])
        values["reweight"] = ReweightVerdict(**values["reweight"])
        for name in ("survivors", "tied"):
            values[name] = tuple(values[name])
        return cls(**values)
