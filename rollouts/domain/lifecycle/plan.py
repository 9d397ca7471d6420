"""A plan: what a rollout is to do, and in which time. Shares are the candidate's, in basis points.

It has either steps or settings that only its strategy understands. A step ends on exposure (seconds *and* requests of
the candidate) with no FAIL; the last step is the promotion. Plans are read by `rollouts.domain.strategies.plans`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

from controlplane.kernel.digests import digest_of
from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.words import percent_of_bp

FULL_SHARE_BP = 10_000
MAX_STEPS = 20
MAX_HOLD_SECONDS = 30 * 24 * 3600
MOST_REQUESTS = 10**9
TIMES = ("watch_seconds", "no_data_seconds", "deadline_seconds", "launch_seconds")


@dataclass(frozen=True, slots=True)
class Step:
    """Set `share_bp`, hold for `hold_seconds` and `min_requests` of the candidate; `require_pass` tightens it."""

    share_bp: int
    hold_seconds: int
    min_requests: int = 0
    require_pass: bool = False

    def lasts(self, requests_per_second: float) -> float:
        """Seconds that it takes at least while the endpoint gets so many requests a second, all arms together.
        No more than any step may be asked to hold.
        """
        if not self.min_requests:
            return float(self.hold_seconds)
        candidate = requests_per_second * self.share_bp / FULL_SHARE_BP
        taken = self.min_requests / candidate if candidate else math.inf
        return max(float(self.hold_seconds), min(taken, MAX_HOLD_SECONDS))

    def to_json(self) -> dict[str, Any]:
        return {
            "share_bp": self.share_bp,
            "hold_seconds": self.hold_seconds,
            "min_requests": self.min_requests,
            "require_pass": self.require_pass,
        }


class Settings(Protocol):
    """What only one strategy has in a plan: a frozen dataclass of plain values."""

    def to_json(self) -> dict[str, Any]: ...

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Reads what a person wrote. Raises InvalidInput with the field as `<strategy>.<name>`."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What a rollout does by itself, then promotion with a watch of `watch_seconds`.

    steps             growing shares below 100%; none where the strategy has settings
    settings          what only this strategy has; in JSON under its name
    no_data_seconds   how long a step may go without any measurement before it rolls back (labelled, outside alpha).
                      While the source itself cannot be read that time stands still, unless the policy's on_error
                      rolls back
    deadline_seconds  how long the whole rollout may take before it pauses as inconclusive
    launch_seconds    how long a candidate may take to become ready
    """

    strategy: str
    steps: tuple[Step, ...] = ()
    watch_seconds: int = 24 * 3600
    no_data_seconds: int = 600
    deadline_seconds: int = 7 * 24 * 3600
    launch_seconds: int = 900
    settings: Settings | None = None

    @property
    def digest(self) -> str:
        return digest_of(self.to_json())

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {"strategy": self.strategy}
        if self.settings is not None:
            data[self.strategy] = self.settings.to_json()
        else:
            data["steps"] = [step.to_json() for step in self.steps]
        return data | {name: getattr(self, name) for name in TIMES}


def canary(
    shares_percent: Iterable[float], *, hold_seconds: int, min_requests: int, watch_seconds: int = 24 * 3600
) -> Plan:
    """A canary with equal holds: `canary((5, 25, 50), ...)` goes 5, 25, 50, then 100%."""
    steps = tuple(Step(round(share * 100), hold_seconds, min_requests) for share in shares_percent)
    check_steps(steps)
    return Plan("canary", steps, watch_seconds=watch_seconds)


def shares_of(baseline: str, candidate: str, candidate_bp: int) -> dict[str, int]:
    """Both arms' shares; they sum to 10,000."""
    if not 0 <= candidate_bp <= FULL_SHARE_BP:
        raise InvalidInput(
            f"A share of {candidate_bp} basis points is not between 0 and 10,000.", field="share_bp"
        )
    return {baseline: FULL_SHARE_BP - candidate_bp, candidate: candidate_bp}


def check_steps(steps: Sequence[Step]) -> None:
    """Raises InvalidInput, naming the field, unless there are 1 to MAX_STEPS whose shares grow."""
    if not 1 <= len(steps) <= MAX_STEPS:
        raise InvalidInput(f"A plan has 1 to {MAX_STEPS} steps.", field="plan.steps")
    before = 0
    for i, step in enumerate(steps):
        if step.share_bp <= before:
            raise InvalidInput(
                f"Step {i + 1} has {percent_of_bp(step.share_bp)}, not more than the {percent_of_bp(before)} before "
                "it.",
                field=f"plan.steps[{i}].share_bp",
                fix="Let the shares grow from step to step.",
            )
        before = step.share_bp


def read_steps(data: Any) -> tuple[Step, ...]:
    """Steps that a client sent. Raises InvalidInput naming the field, such as `plan.steps[1].share_bp`."""
    if not isinstance(data, list | tuple):
        raise InvalidInput("A plan needs a list of steps.", field="plan.steps")
    return tuple(_read_step(step, f"plan.steps[{i}]") for i, step in enumerate(data))


def _read_step(data: Any, where: str) -> Step:
    if not isinstance(data, Mapping):
        raise InvalidInput("A step is an object.", field=where)
    refuse_unknown(data, {"share_bp", "hold_seconds", "min_requests", "require_pass"}, where)
    for name in ("share_bp", "hold_seconds"):
        if name not in data:
            raise InvalidInput("This value is missing.", field=f"{where}.{name}")
    return Step(
        share_bp=_whole(data["share_bp"], f"{where}.share_bp", 1, FULL_SHARE_BP - 1),
        hold_seconds=_whole(data["hold_seconds"], f"{where}.hold_seconds", 1, MAX_HOLD_SECONDS),
        min_requests=_whole(data.get("min_requests", 0), f"{where}.min_requests", 0, MOST_REQUESTS),
        require_pass=_flag(data.get("require_pass", False), f"{where}.require_pass"),
    )


def read_times(data: Mapping[str, Any]) -> dict[str, int]:
    """The times of a plan that a client sent, in seconds; those left out have their defaults."""
    return {name: _whole(data[name], f"plan.{name}", 0, MAX_HOLD_SECONDS) for name in TIMES if name in data}


def _whole(value: Any, field: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidInput(f"{value!r} is not a whole number from {low:,} to {high:,}.", field=field)
    return value


def _flag(value: Any, field: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput(f"{value!r} is neither true nor false.", field=field)
    return value


def refuse_unknown(data: Mapping[str, Any], known: set[str], where: str) -> None:
    """Raises InvalidInput for a name that is not among the known ones."""
    for name in data:
        if name not in known:
            raise InvalidInput(
                f"{name!r} is not known here.",
                field=f"{where}.{name}",
                fix=f"Known: {', '.join(sorted(known))}.",
            )
