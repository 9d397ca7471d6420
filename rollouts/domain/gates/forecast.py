"""How long a gate will need: to a PASS from where it stands, and what a plan can find before it starts.

All forecasts follow the *mean path*: counts take their expected values, evidence grows by its expected
increments. Half of the rollouts are faster, about half slower; a verdict never rests on a forecast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.words import duration_of_minutes, percent_of_share, ratio_text, rough
from rollouts.domain.gates import checks
from rollouts.domain.gates.crossing import first_on_grid
from rollouts.domain.gates.dispersion import Dispersion
from rollouts.domain.gates.evidence import FIRST_WEIGHT, log_sum_exp
from rollouts.domain.gates.paired import FIRST_PAIRED_WEIGHT, PairedProcess, bets_of
from rollouts.domain.gates.policy import GatePolicy, GateSpec
from rollouts.domain.gates.projection import log_increments
from rollouts.domain.gates.proportion import Proof, ProportionProcess, multipliers_of
from rollouts.domain.gates.reading import PASS_SHARE_BP
from rollouts.domain.gates.words import UNITS

BISECTIONS = 40
LARGEST_FORECAST = 1e7  # requests; beyond it the honest answer is "unknown"
SMALLEST_BASE = (
    1e-4  # a rate at which nothing was seen yet is small, not zero: some thousand requests prove no less
)
TELLING_RATIO = 20.0  # beyond it a multiple of next to nothing says less than the rate itself


def growth(
    decision: Proof,
    limit: tuple[float, float],
    p_candidate: float,
    p_baseline: float,
    baseline_per_candidate: float,
) -> tuple[float, ...]:
    """Expected log increment of each alternative per request of the candidate, at these true rates.

    baseline_per_candidate      baseline requests for each candidate request (3 at a share of 25%)
    """
    increments = log_increments(
        min(max(p_baseline, 1e-9), 1 - 1e-9),
        1.0,
        p_candidate,
        baseline_per_candidate,
        baseline_per_candidate * p_baseline,
        ratio=limit[0],
        delta=limit[1],
        fail=decision == "fail",
        multipliers=multipliers_of(decision),
    )
    return tuple(float(increment) for increment in increments)


def score_growth(decision: Proof, margin: float, grid: int, drop: float, spread: float) -> tuple[float, ...]:
    """Expected log increment of each bet per pair, for differences with this mean drop and standard
    deviation.
    """
    mean = drop - margin if decision == "fail" else margin - drop
    lowest, highest = (-1 - margin, 1 - margin) if decision == "fail" else (margin - 1, margin + 1)
    ends = (max(mean - spread, lowest), min(mean + spread, highest))
    return tuple(sum(math.log1p(bet * end) for end in ends) / 2 for bet in bets_of(decision, margin, grid))


def trials_until(
    logs: Sequence[float], growths: Sequence[float], log_target: float, most: float = LARGEST_FORECAST
) -> float | None:
    """How many more trials until the log of the mean of exp(logs) reaches the target; None beyond `most`."""

    log_n = math.log(len(logs))

    def evidence(trials: float) -> float:
        values = [value + trials * rate for value, rate in zip(logs, growths, strict=True)]
        return log_sum_exp(values) - log_n

    if evidence(0) >= log_target:
        return 0.0
    # `_first` ends on a grid that depends on how far it has to go: all its points are whole multiples of this step.
    far = first_on_grid(logs, growths, log_target, 1.0, end=most)
    if far is not None:
        high = math.ldexp(1.0, (far - 1).bit_length())
        step = high * 0.5 ** (BISECTIONS if far == 1 else BISECTIONS + 1)
        found = first_on_grid(logs, growths, log_target, step, end=high, above=float(far))
        if found is not None and high <= most:
            return found * step
    return _first(lambda trials: evidence(trials) >= log_target, most)


def _first(reached: Callable[[float], bool], most: float) -> float | None:
    """The smallest positive number where `reached` turns true, by doubling and bisection."""
    high = 1.0
    while not reached(high):
        high *= 2
        if high > most:
            return None
    low = high / 2 if high > 1 else 0.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def requests_to_pass(
    passing: ProportionProcess | PairedProcess,
    beta: float,
    p_candidate: float,
    p_baseline: float,
    baseline_per_candidate: float,
    *,
    spread: float = 0.0,
    temper: float = 1.0,
) -> float | None:
    """Requests of the candidate (or pairs) until PASS if the rates stay as they are; None when not in
    sight.
    """
    if isinstance(passing, PairedProcess):
        rates = score_growth("pass", passing.margin, passing.grid, p_baseline - p_candidate, spread)
    else:
        rates = growth(
            "pass", (passing.ratio, passing.delta), p_candidate, p_baseline, baseline_per_candidate
        )
    if max(rates) <= 0:
        return None
    return trials_until(passing.evidence.logs, [temper * rate for rate in rates], math.log(1 / beta))


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanForecast:
    """What a plan can show about one gate, before it starts.

    detectable          the smallest worsening that would be rolled back by the end of the plan (mean path):
                        a ratio of rates, or a drop of the mean score for a paired gate; None: none, however
                        large
    detectable_rate     the candidate's rate at that worsening (None for a paired gate)
    requests_to_pass    candidate requests (pairs) that a PASS takes when nothing changed; None: not in sight
    minutes_to_pass     of those steps that can give a PASS
    passes_in_plan      the plan is long enough for that PASS
    sentence            for people
    """

    key: str
    detectable: float | None
    detectable_rate: float | None
    requests_to_pass: int | None
    minutes_to_pass: float | None
    passes_in_plan: bool
    sentence: str

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def plan_forecast(
    *,
    policy: GatePolicy,
    gate: GateSpec,
    requests_per_second: float,
    base_rate: float,
    steps: Sequence[tuple[int, float]],
    pairs_per_minute: float = 10.0,
    score_spread: float = 0.4,
) -> PlanForecast:
    """The preview of one gate on a plan.

    requests_per_second     of the endpoint, all arms together
    base_rate               the baseline's rate of events (errors, requests over the SLO, thumbs down); for a
                            paired gate the mean score, which does not matter
    steps                   (share of the candidate in basis points, seconds) in order
    pairs_per_minute, score_spread      paired gates: how fast probes run, standard deviation of a pair's
                                        difference
    Raises InvalidInput naming the argument.
    """
    rate = checks.between(requests_per_second, 0, 1e9, field="requests_per_second", low_open=True)
    if not steps:
        raise InvalidInput("steps is empty: a plan needs at least one step.", field="steps")
    for position, (share, seconds) in enumerate(steps):
        checks.between(share, 0, 10_000, field=f"steps[{position}].share_bp")
        checks.between(seconds, 0, 1e9, field=f"steps[{position}].seconds")
    if gate.kind == "paired":
        return _paired_plan(policy, gate, steps, pairs_per_minute, score_spread)
    base = checks.between(base_rate, 0, 1, field="base_rate", high_open=True)
    base = max(base, SMALLEST_BASE)
    # what independent requests are tempered by on average: more in the first minutes, less after half an hour
    temper = 1 / Dispersion().factor if gate.kind in ("latency_slo", "abandoned") else 1.0
    stretches = [
        (share / 10_000, rate * share / 10_000 * seconds) for share, seconds in steps if 0 < share < 10_000
    ]
    detectable = _detectable(policy, gate, base, stretches, temper)
    needed, seconds_needed, in_plan = _pass_on_plan(policy, gate, rate, base, steps, temper)
    return _plan_words(
        gate, detectable, None if detectable is None else base * detectable, needed, seconds_needed, in_plan
    )


def _detectable(
    policy: GatePolicy, gate: GateSpec, base: float, stretches: Sequence[tuple[float, float]], temper: float
) -> float | None:
    """The smallest ratio of rates whose FAIL evidence reaches the gate's own threshold by the end of the
    plan.
    """
    target = -math.log(policy.alpha * gate.weight * FIRST_WEIGHT)

    def found(ratio: float) -> bool:
        logs = [0.0] * len(multipliers_of("fail"))
        for share, requests in stretches:
            rates = growth("fail", gate.fail_limit, base * ratio, base, (1 - share) / share)
            logs = [value + temper * requests * rate for value, rate in zip(logs, rates, strict=True)]
        return log_sum_exp(logs) - math.log(len(logs)) >= target

    largest = 0.999 / base
    if not stretches or not found(largest):
        return None
    low, high = 1.0, largest
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return high


def _pass_on_plan(
    policy: GatePolicy,
    gate: GateSpec,
    rate: float,
    base: float,
    steps: Sequence[tuple[int, float]],
    temper: float,
) -> tuple[float | None, float | None, bool]:
    """(candidate requests, seconds in deciding steps, whether the plan is long enough) of a PASS at no
    change.
    """
    logs: Sequence[float] = [0.0] * len(multipliers_of("pass"))
    target = math.log(1 / policy.beta)
    requests, elapsed = 0.0, 0.0
    deciding = [(share, seconds) for share, seconds in steps if PASS_SHARE_BP <= share < 10_000]
    if gate.absolute:
        deciding = [(share, seconds) for share, seconds in steps if share >= PASS_SHARE_BP]
    for position, (share, seconds) in enumerate(deciding):
        part = share / 10_000
        rates = [temper * value for value in growth("pass", gate.pass_limit, base, base, (1 - part) / part)]
        more = trials_until(logs, rates, target)
        last = position == len(deciding) - 1
        if more is not None and (last or more <= rate * part * seconds):
            in_plan = more <= rate * part * seconds
            return requests + more, elapsed + more / (rate * part), in_plan
        logs = [value + rate * part * seconds * growth_ for value, growth_ in zip(logs, rates, strict=True)]
        requests, elapsed = requests + rate * part * seconds, elapsed + seconds
    return None, None, False


def _paired_plan(
    policy: GatePolicy,
    gate: GateSpec,
    steps: Sequence[tuple[int, float]],
    pairs_per_minute: float,
    spread: float,
) -> PlanForecast:
    speed = checks.between(pairs_per_minute, 0, 1e6, field="pairs_per_minute", low_open=True)
    spread = checks.between(spread, 0, 1, field="score_spread", low_open=True)
    pairs = speed * sum(seconds for _, seconds in steps) / 60
    grid = 40
    target = -math.log(policy.alpha * gate.weight * FIRST_PAIRED_WEIGHT)

    def found(drop: float) -> bool:
        rates = score_growth("fail", gate.fail_limit[1], grid, drop, spread)
        return trials_until([0.0] * grid, rates, target, max(pairs, 1)) is not None

    detectable: float | None = None
    if found(1.0):
        low, high = 0.0, 1.0
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (low, middle) if found(middle) else (middle, high)
        detectable = high
    rates = score_growth("pass", gate.pass_limit[1], grid, 0.0, spread)
    needed = trials_until([0.0] * grid, rates, math.log(1 / policy.beta))
    seconds = None if needed is None else needed / speed * 60
    return _plan_words(gate, detectable, None, needed, seconds, needed is not None and needed <= pairs)


def worsening_text(gate: GateSpec, detectable: float | None, base: float | None) -> str:
    """The smallest worsening that is found: `×1.33`, `0.61%` (over next to nothing), `−0.094`, or `none`.

    base    the baseline's rate; not needed for a paired gate
    """
    if detectable is None:
        return "none"
    if gate.kind == "paired" or base is None:
        return f"−{detectable:.2g}"
    if detectable > TELLING_RATIO or base <= SMALLEST_BASE:
        return percent_of_share(max(base, SMALLEST_BASE) * detectable)
    return ratio_text(detectable)


def _plan_words(
    gate: GateSpec,
    detectable: float | None,
    detectable_rate: float | None,
    needed: float | None,
    seconds: float | None,
    in_plan: bool,
) -> PlanForecast:
    minutes = None if seconds is None else seconds / 60
    unit = UNITS.get(gate.kind, "candidate requests")
    if detectable is None:
        finds = "This plan is too short to find any worsening"
    elif detectable_rate is None:
        finds = f"This plan finds a mean score {detectable:.2g} lower or worse"
    else:
        found = worsening_text(gate, detectable, detectable_rate / detectable)
        rate = percent_of_share(detectable_rate)
        finds = f"This plan finds {found if found == rate else f'{found} ({rate})'} or worse"
    if needed is None or minutes is None:
        passes = "no step of it can prove that nothing changed"
    else:
        passes = f"an unchanged candidate needs about {rough(needed)} {unit} ({duration_of_minutes(minutes)}) to pass"
        passes += "" if in_plan else ", longer than the plan"
    return PlanForecast(
        key=gate.key,
        detectable=detectable,
        detectable_rate=detectable_rate,
        requests_to_pass=None if needed is None else math.ceil(needed),
        minutes_to_pass=minutes,
        passes_in_plan=in_plan,
        sentence=f"{gate.label}: {finds[0].lower() + finds[1:]}; {passes}.",
    )
