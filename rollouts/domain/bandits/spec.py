"""What a person sets about a bandit: plain data, checked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

from controlplane.kernel.errors import InvalidInput
from rollouts.domain.bandits.arithmetic import WHOLE
from rollouts.domain.gates import checks

Reward = Literal["feedback"]
MOST_ARMS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class BanditSpec:
    """How a bandit learns. Raises InvalidInput with the field as `bandit.<name>`.

    reward              "feedback": an answer earns 1, or 0 when it was rated down
    alpha               the best arm is dropped by evidence with probability at most alpha, over the whole life
    beta                the dial: high keeps regret low, .5 decides soonest; below it nothing more is gained
    floor_bp            each candidate in the race keeps at least this share
    baseline_bp         the baseline keeps at least this share for good, also when it cannot win any more: the
                        guardrails need something to compare with
    burn_in             answers with complete ratings that every arm needs at equal shares before weights move
    reweight_seconds    of exposure between reweights
    min_change_bp       a reweight whose largest change is smaller is skipped
    discount            of what was learned about the arms, at each interval with answers; below 1 forgets (for arms
                        that drift apart). Evidence for elimination is never discounted
    """

    reward: Reward = "feedback"
    alpha: float = 0.05
    beta: float = 0.5
    floor_bp: int = 500
    baseline_bp: int = 1000
    burn_in: int = 200
    reweight_seconds: float = 60.0
    min_change_bp: int = 200
    discount: float = 1.0

    @property
    def tie_alpha(self) -> float:
        """One of K equal arms is ever named the winner with probability at most this. Each leaves by evidence with
        probability at most alpha, and for a winner all of K but one have to leave: at most alpha x K / (K - 1)."""
        return min(1.0, 2 * self.alpha)

    def __post_init__(self) -> None:
        try:
            self._check()
        except InvalidInput as error:
            raise checks.at("bandit", error)

    def _check(self) -> None:
        checks.one_of(self.reward, get_args(Reward), field="reward")
        put = object.__setattr__
        put(self, "alpha", checks.chance(self.alpha, field="alpha"))
        put(self, "beta", checks.between(self.beta, 0, 1, field="beta", low_open=True))
        put(self, "discount", checks.between(self.discount, 0.5, 1, field="discount"))
        seconds = checks.between(self.reweight_seconds, 1, 86_400, field="reweight_seconds")
        put(self, "reweight_seconds", seconds)
        put(self, "burn_in", checks.count(self.burn_in, field="burn_in"))
        for name, most in (("floor_bp", 5_000), ("baseline_bp", 9_000), ("min_change_bp", 5_000)):
            value = checks.count(getattr(self, name), field=name)
            checks.between(value, 0, most, field=name)
            put(self, name, value)
        if self.baseline_bp == 0:
            raise InvalidInput(
                "baseline_bp is 0: without baseline traffic the guardrails have nothing to compare with.",
                field="baseline_bp",
                fix="Use 1000 (10%).",
            )

    def check_arms(self, arms: int) -> None:
        """Refuses a number of arms that the floors leave no room for."""
        if not 2 <= arms <= MOST_ARMS:
            raise InvalidInput(f"A bandit has 2 to {MOST_ARMS} arms, not {arms}.", field="bandit.arms")
        needed = self.baseline_bp + (arms - 1) * self.floor_bp
        if needed > WHOLE:
            raise InvalidInput(
                f"baseline_bp and floor_bp of {arms} arms sum to {needed:,} basis points, more than 10,000.",
                field="bandit.floor_bp",
                fix="Lower floor_bp or baseline_bp, or start with fewer arms.",
            )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Reads what a person wrote; what is left out has its default."""
        return cls(**checks.mapping(data, field="bandit", allowed=list(cls.__dataclass_fields__)))
