"""What a plan can show about one gate, before it starts: the smallest worsening that it finds, and when it can pass.

Like all forecasts it follows the mean path (`forecast.py`), with what the gate leaves out and divides by (`pace.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from controlplane.kernel.errors import InvalidInput
from controlplane.kernel.words import (
    duration_of_minutes,
    duration_of_seconds,
    percent_of_bp,
    percent_of_share,
    ratio_text,
    rough,
    significant,
)
from rollouts.domain.gates import checks
from rollouts.domain.gates.evidence import FIRST_WEIGHT, log_sum_exp
from rollouts.domain.gates.fixed_limits import NO_TEST, beyond_words
from rollouts.domain.gates.forecast import LARGEST_FORECAST, growth, score_growth, trials_until
from rollouts.domain.gates.late import LATE_SECONDS, ShareTrail
from rollouts.domain.gates.latency import load_directions
from rollouts.domain.gates.pace import USUAL_INTERVAL_SECONDS, Caution, EvidencePace, Flow, Way
from rollouts.domain.gates.paired import FIRST_PAIRED_WEIGHT
from rollouts.domain.gates.policy import BY_LOAD, TEMPERED, GatePolicy, GateSpec
from rollouts.domain.gates.proportion import multipliers_of
from rollouts.domain.gates.reading import PASS_SHARE_BP
from rollouts.domain.gates.words import EVENTS, UNITS

SMALLEST_BASE = (
    1e-4  # a rate at which nothing was seen yet is small, not zero: some thousand requests prove no less
)
ROUNDING = 1e-6  # of an interval
TELLING_RATIO = 20.0  # beyond it a multiple of next to nothing says less than the rate itself


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanForecast:
    """What a plan can show about one gate, before it starts.

    detectable          the smallest worsening that would be rolled back by the end of the plan (mean path):
                        a ratio of rates, or a drop of the mean score for a paired gate; None: none, however
                        large, and of a fixed limit, which no worsening is measured by
    detectable_rate     the candidate's rate at that worsening (None for a paired gate)
    requests_to_pass    candidate requests (pairs, readings) that a PASS takes when nothing changed; None: not in sight
    minutes_to_pass     the time in which they come
    from_share_bp       both count from the step of this share on, the first that can give a PASS (basis points); None:
                        from the beginning, or no such step
    passes_in_plan      the plan is long enough for that PASS
    sentence            for people
    """

    key: str
    detectable: float | None
    detectable_rate: float | None
    requests_to_pass: int | None
    minutes_to_pass: float | None
    from_share_bp: int | None
    passes_in_plan: bool
    sentence: str

    @property
    def since(self) -> str:
        """From when on requests and minutes to PASS count: `from 25% on`; empty: from the beginning."""
        return _since(self.from_share_bp)

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class _Stage:
    """A step of a plan as one gate sees it.

    requests    a second, of both arms
    blind       seconds at its beginning in which nothing is measured (the candidate warms up)
    late        seconds after those in which nothing speaks for a PASS (the share just grew)
    """

    share: float
    seconds: float
    requests: float
    blind: float
    late: float

    def flow(self, setting: _Setting, p_candidate: float, p_baseline: float) -> Flow:
        candidate = self.requests * self.share
        return Flow(
            candidate,
            self.requests - candidate,
            p_candidate,
            p_baseline,
            setting.interval_seconds,
            setting.ready if setting.by_load else None,
        )


@dataclass(frozen=True, slots=True)
class _Setting:
    """What holds for all steps. `by_load`: the gate follows the load rule; `tempered`: it is divided by what its blocks
    show.
    """

    policy: GatePolicy
    gate: GateSpec
    ready: tuple[float, float]
    interval_seconds: float

    @property
    def tempered(self) -> bool:
        return self.gate.kind in TEMPERED

    @property
    def by_load(self) -> bool:
        return self.gate.kind in BY_LOAD and not self.gate.absolute

    @property
    def caution(self) -> Caution | None:
        return Caution() if self.tempered else None

    def may_pass(self, stage: _Stage) -> bool:
        """Whether evidence for a PASS is to be expected at all."""
        if stage.share * 10_000 < PASS_SHARE_BP or (stage.share == 1 and not self.gate.absolute):
            return False
        loads = stage.share / self.ready[0], (1 - stage.share) / self.ready[1]
        return not self.by_load or load_directions(*loads).may_pass

    def counted(self, flow: Flow, way: Way) -> float:
        return 1.0 if self.gate.absolute else flow.counted(way)


def plan_forecast(
    *,
    policy: GatePolicy,
    gate: GateSpec,
    requests_per_second: float,
    base_rate: float,
    steps: Sequence[tuple[int, float]],
    pairs_per_minute: float = 10.0,
    score_spread: float = 0.4,
    ready: tuple[float, float] = (1.0, 1.0),
    interval_seconds: float = USUAL_INTERVAL_SECONDS,
) -> PlanForecast:
    """The preview of one gate on a plan.

    requests_per_second     of the endpoint, all arms together
    base_rate               the baseline's rate of events (errors, requests over the SLO, thumbs down); for a
                            paired gate the mean score, which does not matter
    steps                   (share of the candidate in basis points, seconds) in order
    pairs_per_minute, score_spread      paired gates: how fast probes run, standard deviation of a pair's
                                        difference
    ready                   replicas of the candidate and of the baseline: gates that depend on load compare
                            under like loads only
    interval_seconds        how long the intervals of the loop are
    Raises InvalidInput naming the argument.
    """
    rate = checks.between(requests_per_second, 0, 1e9, field="requests_per_second", low_open=True)
    if not steps:
        raise InvalidInput("steps is empty: a plan needs at least one step.", field="steps")
    for position, (share, seconds) in enumerate(steps):
        checks.between(share, 0, 10_000, field=f"steps[{position}].share_bp")
        checks.between(seconds, 0, 1e9, field=f"steps[{position}].seconds")
    length = checks.between(interval_seconds, 0, 86_400, field="interval_seconds", low_open=True)
    if gate.fixed:
        return _fixed_plan(gate, steps, length)
    if gate.kind == "paired":
        return _paired_plan(policy, gate, steps, pairs_per_minute, score_spread)
    base = checks.between(base_rate, 0, 1, field="base_rate", high_open=True)
    base = max(base, SMALLEST_BASE)
    for position, replicas in enumerate(ready):
        checks.between(replicas, 0, 1e6, field=f"ready[{position}]", low_open=True)
    setting = _Setting(policy, gate, ready, length)
    stages = _stages(setting, rate, steps)
    detectable = _detectable(setting, base, stages)
    needed, seconds_needed, in_plan = _pass_on_plan(setting, base, stages)
    first = next((number for number, stage in enumerate(stages) if setting.may_pass(stage)), 0)
    return _plan_words(
        gate,
        detectable,
        None if detectable is None else base * detectable,
        needed,
        seconds_needed,
        in_plan,
        from_share_bp=steps[first][0] if first else None,
    )


def _stages(setting: _Setting, rate: float, steps: Sequence[tuple[int, float]]) -> list[_Stage]:
    warming = setting.policy.warm_up_requests if setting.gate.kind == "latency_slo" else 0.0
    stages: list[_Stage] = []
    before = 0
    for share_bp, seconds in steps:
        share = share_bp / 10_000
        blind = warming / (rate * share) if share else 0.0
        warming -= min(blind, seconds) * rate * share
        late = 0.0
        if setting.gate.kind == "abandoned" and before:  # who leaves is counted late
            moved = ShareTrail().add(1.0, before, 10_000 - before).add(1.0, share_bp, 10_000 - share_bp)
            late = 0.0 if moved.directions.may_pass else LATE_SECONDS
        stages.append(_Stage(share, seconds, rate, blind, late))
        before = share_bp
    return stages


def _detectable(setting: _Setting, base: float, stages: Sequence[_Stage]) -> float | None:
    """The smallest ratio of rates whose FAIL evidence reaches the gate's own threshold by the end of the
    plan.
    """
    gate = setting.gate
    target = -math.log(setting.policy.alpha * gate.weight * FIRST_WEIGHT)
    compared = [stage for stage in stages if 0 < stage.share < 1]

    def found(ratio: float) -> bool:
        logs = [0.0] * len(multipliers_of("fail"))
        caution = setting.caution
        for stage in compared:
            flow = stage.flow(setting, base * ratio, base)
            seconds = max(0.0, stage.seconds - stage.blind)
            worth = (
                EvidencePace(flow, caution).worth(seconds) * flow.candidate * setting.counted(flow, "fail")
            )
            caution = None if caution is None else caution.after(flow, seconds)
            rates = growth("fail", gate.fail_limit, base * ratio, base, flow.baseline / flow.candidate)
            logs = [value + worth * rate for value, rate in zip(logs, rates, strict=True)]
        return log_sum_exp(logs) - math.log(len(logs)) >= target

    largest = 0.999 / base
    if not compared or not found(largest):
        return None
    low, high = 1.0, largest
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return high


def _pass_on_plan(
    setting: _Setting, base: float, stages: Sequence[_Stage]
) -> tuple[float | None, float | None, bool]:
    """(candidate requests, seconds in deciding steps, whether the plan is long enough) of a PASS at no
    change.
    """
    gate, caution = setting.gate, setting.caution
    logs: Sequence[float] = [0.0] * len(multipliers_of("pass"))
    target = math.log(1 / setting.policy.beta)
    requests = elapsed = seen_candidate = seen_baseline = 0.0
    last = max((number for number, stage in enumerate(stages) if setting.may_pass(stage)), default=-1)
    for number, stage in enumerate(stages[: last + 1]):
        flow = stage.flow(setting, base, base)
        quiet = stage.blind + stage.late
        if setting.may_pass(stage):
            apart = flow.baseline / flow.candidate
            speed = flow.candidate * setting.counted(flow, "pass")
            later = None if caution is None else caution.after(flow, stage.late)
            pace, rates = EvidencePace(flow, later), growth("pass", gate.pass_limit, base, base, apart)
            more = _seconds_to(pace, logs, [speed * rate for rate in rates], target, flow.candidate)
            if more is not None:
                # Nothing is said before so many requests are there, however clear they are.
                missing = (gate.min_exposure - seen_candidate) / flow.candidate
                if not gate.absolute:
                    missing = max(missing, (gate.min_exposure - seen_baseline) / flow.baseline)
                more = _whole(max(quiet + more, missing), setting.interval_seconds)
                if number == last or more <= stage.seconds:
                    return requests + more * flow.candidate, elapsed + more, more <= stage.seconds
            worth = speed * pace.worth(max(0.0, stage.seconds - quiet))
            logs = [value + worth * rate for value, rate in zip(logs, rates, strict=True)]
            requests, elapsed = requests + flow.candidate * stage.seconds, elapsed + stage.seconds
        seen_candidate += flow.candidate * stage.seconds
        seen_baseline += flow.baseline * stage.seconds
        caution = None if caution is None else caution.after(flow, max(0.0, stage.seconds - stage.blind))
    return None, None, False


def _whole(seconds: float, interval_seconds: float) -> float:
    """Up to the end of an interval: nothing is said in between."""
    return math.ceil(seconds / interval_seconds - ROUNDING) * interval_seconds


def _seconds_to(
    pace: EvidencePace, logs: Sequence[float], rates: Sequence[float], log_target: float, requests: float
) -> float | None:
    """Seconds until the evidence reaches the target at so much growth a second that is divided by nothing; None beyond
    LARGEST_FORECAST requests at so many a second.
    """
    most = LARGEST_FORECAST / requests
    worth = trials_until(logs, rates, log_target, most) if max(rates) > 0 else None
    return None if worth is None else pace.seconds_for(worth, most)


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
    if needed is not None:
        needed = max(needed, float(gate.min_exposure))
    seconds = None if needed is None else needed / speed * 60
    return _plan_words(gate, detectable, None, needed, seconds, needed is not None and needed <= pairs)


def _fixed_plan(gate: GateSpec, steps: Sequence[tuple[int, float]], interval_seconds: float) -> PlanForecast:
    """A fixed limit counts readings, at most one an interval; whether a number keeps to it nobody knows before."""
    needed = gate.pass_readings or 1
    seconds = needed * interval_seconds
    deciding = [number for number, (share, _) in enumerate(steps) if share >= PASS_SHARE_BP]
    lasting = math.fsum(steps[number][1] for number in deciding)
    first = deciding[0] if deciding else 0
    since = steps[first][0] if first else None
    fails = duration_of_seconds((gate.fail_readings or 1) * interval_seconds)
    if deciding:
        passes = f"it passes after {needed:,} within ({duration_of_seconds(seconds)} or more)"
        passes += "" if since is None else f", {_since(since)}"
        passes += "" if seconds <= lasting else ", longer than the plan"
    else:
        passes = "no step of the plan is large enough for a pass"
    return PlanForecast(
        key=gate.key,
        detectable=None,
        detectable_rate=None,
        requests_to_pass=needed if deciding else None,
        minutes_to_pass=seconds / 60 if deciding else None,
        from_share_bp=since,
        passes_in_plan=bool(deciding) and seconds <= lasting,
        sentence=(
            f"{gate.label}: {gate.fail_readings:,} readings in a row {beyond_words(gate)} ({fails} or more) roll back; "
            f"{passes}. {NO_TEST}"
        ),
    )


def worsening_text(gate: GateSpec, detectable: float | None, base: float | None) -> str:
    """The smallest worsening that is found: `×1.33`, `0.61%` (over next to nothing), `−0.094`, or `none`.

    base    the baseline's rate; not needed for a paired gate
    A fixed limit finds what is beyond it: `above 85`.
    """
    if gate.fixed:
        return beyond_words(gate)
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
    *,
    from_share_bp: int | None = None,
) -> PlanForecast:
    minutes = None if seconds is None else seconds / 60
    unit = UNITS.get(gate.kind, "candidate requests")
    if detectable is None:
        finds = (
            "this plan is not expected to roll back any version, however bad: there is too little to compare"
        )
    elif detectable_rate is None:
        finds = f"this plan rolls back a version whose mean score is {detectable:.2g} lower or worse"
    else:
        rate, events = (
            percent_of_share(detectable_rate),
            EVENTS.get(gate.kind, "of the events that it counts"),
        )
        telling = worsening_text(gate, detectable, detectable_rate / detectable) != rate
        times = (
            f"{significant(detectable, 3)} times as many {events} ({rate})" if telling else f"{rate} {events}"
        )
        finds = f"this plan rolls back a version with {times} or more"
    if needed is None or minutes is None:
        passes = "no step of it is long or large enough for a pass"
    else:
        passes = f"an unchanged version needs about {rough(needed)} {unit} ({duration_of_minutes(minutes)}) to pass"
        passes += "" if from_share_bp is None else f", {_since(from_share_bp)}"
        passes += "" if in_plan else ", longer than the plan"
    return PlanForecast(
        key=gate.key,
        detectable=detectable,
        detectable_rate=detectable_rate,
        requests_to_pass=None if needed is None else math.ceil(needed),
        minutes_to_pass=minutes,
        from_share_bp=None if needed is None else from_share_bp,
        passes_in_plan=in_plan,
        sentence=f"{gate.label}: {finds}; {passes}.",
    )


def _since(share_bp: int | None) -> str:
    return "" if share_bp is None else f"from {percent_of_bp(share_bp)} on"
