"""A plan: the steps that a strategy expands into. Shares are the candidate's, in basis points.

A step ends on exposure (seconds *and* requests of the candidate) with no FAIL; the last step is the promotion. A
bandit has no steps: it learns at the shares that its evidence asks for until one arm is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from controlplane.kernel.digests import digest_of
from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.stored import as_stored
from rollouts.domain.bandits.spec import BanditSpec
from rollouts.domain.gates import checks

FULL_SHARE_BP = 10_000
MAX_STEPS = 20
MAX_HOLD_SECONDS = 30 * 24 * 3600
MOST_REQUESTS = 10**9
STRATEGIES = ("canary", "bandit")
TIMES = ("watch_seconds", "no_data_seconds", "deadline_seconds", "launch_seconds")


@dataclass(frozen=True, slots=True)
class Step:
    """Set `share_bp`, hold for `hold_seconds` and `min_requests` of the candidate; `require_pass` tightens it."""

    share_bp: int
    hold_seconds: int
    min_requests: int = 0
    require_pass: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "share_bp": self.share_bp,
            "hold_seconds": self.hold_seconds,
            "min_requests": self.min_requests,
            "require_pass": self.require_pass,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps with growing shares below 100%, then promotion with a watch of `watch_seconds`.

    bandit            how a bandit learns; it has no steps. None for a canary
    no_data_seconds   how long a step may go without any measurement before it rolls back (labelled, outside alpha)
    deadline_seconds  how long the whole rollout may take before it pauses as inconclusive
    launch_seconds    how long a candidate may take to become ready
    """

    strategy: str
    steps: tuple[Step, ...]
    watch_seconds: int = 24 * 3600
    no_data_seconds: int = 600
    deadline_seconds: int = 7 * 24 * 3600
    launch_seconds: int = 900
    bandit: BanditSpec | None = None

    @property
    def promoted_step(self) -> int:
        """The step index of a rollout that was promoted: after the last step, and after a bandit's learning."""
        return 1 if self.bandit is not None else len(self.steps)

    @property
    def digest(self) -> str:
        return digest_of(self.to_json())

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {"strategy": self.strategy}
        if self.bandit is not None:
            data["bandit"] = self.bandit.to_json()
        else:
            data["steps"] = [step.to_json() for step in self.steps]
        return data | {name: getattr(self, name) for name in TIMES}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Reads a plan that a client sent. Raises InvalidInput naming the field, such as `plan.steps[1].share_bp` or
        `plan.bandit.beta`."""
        strategy = str(data.get("strategy", "canary"))
        _check_strategy(strategy)
        is_bandit = strategy == "bandit"
        _refuse_unknown(data, {"strategy", "bandit" if is_bandit else "steps", *TIMES}, "plan")
        plan = cls(
            strategy=strategy,
            steps=() if is_bandit else _read_steps(data.get("steps")),
            bandit=_read_bandit(data.get("bandit", {})) if is_bandit else None,
            **{
                name: _whole(data[name], f"plan.{name}", 0, MAX_HOLD_SECONDS)
                for name in TIMES
                if name in data
            },
        )
        plan._check()
        return plan

    def _check(self) -> None:
        _check_strategy(self.strategy)
        if self.bandit is not None:
            return
        if not 1 <= len(self.steps) <= MAX_STEPS:
            raise InvalidInput(f"A plan has 1 to {MAX_STEPS} steps.", field="plan.steps")
        before = 0
        for i, step in enumerate(self.steps):
            if step.share_bp <= before:
                raise InvalidInput(
                    f"Step {i + 1} has {step.share_bp / 100:g}%, not more than the {before / 100:g}% before it.",
                    field=f"plan.steps[{i}].share_bp",
                    fix="Let the shares grow from step to step.",
                )
            before = step.share_bp


def stored_plan(data: Mapping[str, Any]) -> Plan:
    """A plan as `to_json` gave it, whatever a new one may hold today."""
    steps = tuple(as_stored(Step, step) for step in data.get("steps", ()))
    bandit = as_stored(BanditSpec, data["bandit"]) if "bandit" in data else None
    return as_stored(Plan, {**data, "steps": steps, "bandit": bandit})


def canary(
    shares_percent: Iterable[float], *, hold_seconds: int, min_requests: int, watch_seconds: int = 24 * 3600
) -> Plan:
    """A canary with equal holds: `canary((5, 25, 50), ...)` goes 5, 25, 50, then 100%."""
    plan = Plan(
        strategy="canary",
        steps=tuple(Step(round(share * 100), hold_seconds, min_requests) for share in shares_percent),
        watch_seconds=watch_seconds,
    )
    plan._check()
    return plan


def shares_of(baseline: str, candidate: str, candidate_bp: int) -> dict[str, int]:
    """Both arms' shares; they sum to 10,000."""
    if not 0 <= candidate_bp <= FULL_SHARE_BP:
        raise InvalidInput(
            f"A share of {candidate_bp} basis points is not between 0 and 10,000.", field="share_bp"
        )
    return {baseline: FULL_SHARE_BP - candidate_bp, candidate: candidate_bp}


def _check_strategy(strategy: str) -> None:
    if strategy not in STRATEGIES:
        raise InvalidInput(
            f"The strategy {strategy!r} is not known.",
            field="plan.strategy",
            fix=f"Use {' or '.join(STRATEGIES)}.",
        )


def _read_bandit(data: Any) -> BanditSpec:
    try:
        return BanditSpec.from_json(data)
    except InvalidInput as error:
        raise checks.at("plan", error) from error


def _read_steps(data: Any) -> tuple[Step, ...]:
    if not isinstance(data, list | tuple):
        raise InvalidInput("A plan needs a list of steps.", field="plan.steps")
    return tuple(_read_step(step, f"plan.steps[{i}]") for i, step in enumerate(data))


def _read_step(data: Any, where: str) -> Step:
    if not isinstance(data, Mapping):
        raise InvalidInput("A step is an object.", field=where)
    _refuse_unknown(data, {"share_bp", "hold_seconds", "min_requests", "require_pass"}, where)
    for name in ("share_bp", "hold_seconds"):
        if name not in data:
            raise InvalidInput("This value is missing.", field=f"{where}.{name}")
    return Step(
        share_bp=_whole(data["share_bp"], f"{where}.share_bp", 1, FULL_SHARE_BP - 1),
        hold_seconds=_whole(data["hold_seconds"], f"{where}.hold_seconds", 1, MAX_HOLD_SECONDS),
        min_requests=_whole(data.get("min_requests", 0), f"{where}.min_requests", 0, MOST_REQUESTS),
        require_pass=bool(data.get("require_pass", False)),
    )


def _whole(value: Any, field: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidInput(f"{value!r} is not a whole number from {low:,} to {high:,}.", field=field)
    return value


def _refuse_unknown(data: Mapping[str, Any], known: set[str], where: str) -> None:
    for name in data:
        if name not in known:
            raise InvalidInput(
                f"{name!r} is not known here.",
                field=f"{where}.{name}",
                fix=f"Known: {', '.join(sorted(known))}.",
            )
