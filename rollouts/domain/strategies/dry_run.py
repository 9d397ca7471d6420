"""What a strategy says of a rollout before it starts: what it is told, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rollouts.domain.gates.latency import Directions
from rollouts.domain.gates.pace import USUAL_INTERVAL_SECONDS
from rollouts.domain.gates.plan_forecast import PlanForecast, plan_forecast
from rollouts.domain.gates.policy import GatePolicy
from rollouts.domain.lifecycle.plan import Plan
from rollouts.domain.traffic import MeasuredTraffic

ASSUMED_RATE = 1.0  # requests a second, where nothing was measured
ASSUMED_PAIRS_PER_MINUTE = 60.0  # what quick engines do
LAUNCH_GUESS_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing the dry run looked at. `state` is ok, warning or refused; a refused one has a `fix`."""

    state: str
    title: str
    detail: str = ""
    fix: str = ""
    field: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Contender:
    """A candidate of a planned rollout. `files` is the digest of its manifest; `runs`: its engine is up already."""

    version: int
    label: str
    variant: str
    files: str
    runs: bool


@dataclass(frozen=True, slots=True)
class Planned:
    """A rollout that somebody thinks of starting.

    contenders          the candidates, in the order of their arms
    replicas            of each candidate
    baseline            its variant, empty without one; baseline_version 0 then
    interval_seconds    how long the intervals of the loop are
    """

    plan: Plan
    policy: GatePolicy
    contenders: tuple[Contender, ...]
    replicas: int
    baseline: str
    baseline_version: int
    baseline_replicas: int
    traffic: MeasuredTraffic
    interval_seconds: float = USUAL_INTERVAL_SECONDS


@dataclass(frozen=True, slots=True)
class StepForecast:
    """One step of the plan: when it begins at the earliest (seconds from now), and what latency may show in it."""

    share_bp: int
    starts_after: float
    ends_after: float
    load: float
    latency: str  # "fail and pass", "fail only", "pass only", "nothing"


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a strategy makes of a planned rollout.

    seconds     until it ends: at the earliest, or at its deadline
    end         the same in words, after "may still be open": "when the last step ends"
    promise     how often it is wrong, at most
    gates       what each gate finds by the end, in the order of the policy
    checks      what only this strategy looks at
    steps       where the plan has steps
    own         what only this strategy can say; its page and its form of the API understand it
    """

    seconds: float
    end: str
    promise: str
    gates: tuple[PlanForecast, ...]
    checks: tuple[Check, ...] = ()
    steps: tuple[StepForecast, ...] = ()
    own: object | None = None


def forecast_gates(
    planned: Planned,
    policy: GatePolicy,
    *,
    steps: Sequence[tuple[int, float]],
    requests_per_second: float,
    pairs_per_minute: float = ASSUMED_PAIRS_PER_MINUTE,
) -> tuple[PlanForecast, ...]:
    """What each gate of `policy` finds of one candidate in these steps (share in basis points, seconds).

    requests_per_second     of this candidate and the baseline together
    """
    return tuple(
        plan_forecast(
            policy=policy,
            gate=gate,
            requests_per_second=requests_per_second,
            base_rate=planned.traffic.base_rate(gate),
            steps=steps,
            pairs_per_minute=pairs_per_minute,
            ready=(float(planned.replicas), float(planned.baseline_replicas)),
            interval_seconds=planned.interval_seconds,
        )
        for gate in policy.gates
    )


def direction_words(directions: Directions) -> str:
    """What a latency gate may say under these loads."""
    return {
        (True, True): "fail and pass",
        (True, False): "fail only",
        (False, True): "pass only",
        (False, False): "nothing",
    }[(directions.may_fail, directions.may_pass)]
