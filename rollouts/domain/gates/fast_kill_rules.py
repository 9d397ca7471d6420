"""What a policy says of the fast kill. What it does with it: `fastkill.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.words import percent_of_share, seconds_text
from rollouts.domain.gates import checks


@dataclass(frozen=True, slots=True, kw_only=True)
class FastKill:
    """Fixed thresholds beside the statistics, outside alpha, for what needs no proof.

    Bursts: over the last `window_seconds` at least `min_requests` of the candidate, of which `error_share`
    or more failed, were refused by its engine, or were abandoned, while the baseline's share is at most
    `baseline_error_share` (a shared incident kills nothing). With the whole traffic on the candidate there is
    no baseline to compare; `without_baseline` says whether to kill for errors then. Refusals and departures
    may be the clients' own doing, so they need a baseline with as many requests. `crash_restarts` restarts of
    a candidate's engine, or `oom_kills` kills for memory, kill at once, if the baseline's engines are not
    going the same way.
    """

    enabled: bool = True
    window_seconds: float = 30.0
    min_requests: int = 20
    error_share: float = 0.5
    baseline_error_share: float = 0.1
    without_baseline: bool = True
    crash_restarts: int = 3
    oom_kills: int = 1

    def __post_init__(self) -> None:
        checks.flag(self.enabled, field="enabled")
        checks.between(self.window_seconds, 0, 3600, field="window_seconds", low_open=True)
        for name in ("min_requests", "crash_restarts", "oom_kills"):
            if checks.count(getattr(self, name), field=name) == 0:
                raise InvalidInput(f"{name} is 0: that would kill a rollout that did nothing.", field=name)
        checks.between(self.error_share, 0, 1, field="error_share", low_open=True)
        checks.between(self.baseline_error_share, 0, 1, field="baseline_error_share")
        checks.flag(self.without_baseline, field="without_baseline")
        if self.baseline_error_share >= self.error_share:
            raise InvalidInput(
                f"baseline_error_share is {self.baseline_error_share:g}; it must be below error_share "
                f"({self.error_share:g}), or a shared incident would blame the candidate.",
                field="baseline_error_share",
            )

    def describe(self) -> str:
        if not self.enabled:
            return "The fast kill is off."
        return (
            f"Rolls back at once when {percent_of_share(self.error_share)} or more of at least {self.min_requests} "
            f"candidate requests fail, are refused or are abandoned within {seconds_text(self.window_seconds)}, "
            f"while at most {percent_of_share(self.baseline_error_share)} of the baseline's do. It also rolls back "
            f"when the candidate's engine restarted {self.crash_restarts} times, or was killed {self.oom_kills} "
            f"time{'s' if self.oom_kills > 1 else ''} because it ran out of memory."
        )

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_json(cls, data: object) -> Self:
        return cls(**checks.mapping(data, field="", allowed=list(cls.__dataclass_fields__)))
